"""The algorithm of a run's specification: every name, its parameters, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.spec import AlgorithmSpec, RunSpec
from shared.inpo.algorithms import ALGORITHMS
from tests.support.golden_losses import PARAMETERS, algorithm_of
from tests.support.specs import a_spec_body

GIVEN: dict[str, dict[str, Any]] = {
    "iterative_dpo": {"beta": 0.1},
    "ipo": {"tau": 0.1},
    "online_ipo": {"tau": 0.1},
    "ipo_md": {"tau": 0.1, "mixture": 0.25},
    "nash_mp": {"tau": 0.1, "prox": 0.5},
    "mnpo": {"eta": 0.5, "ratio": 0.4, "weights": [3, 1]},
}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_can_be_asked_for_and_survives_the_store(name: str) -> None:
    spec = AlgorithmSpec(name=name, **GIVEN.get(name, {"eta": 0.5}))
    again = AlgorithmSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert ALGORITHMS[name](again.parameters(), 3).half_steps


@pytest.mark.parametrize("case", PARAMETERS)
def test_the_spec_hands_the_mathematics_what_it_was_given(case: str) -> None:
    parameters = PARAMETERS[case]
    given = {name: getattr(parameters, name) for name in parameters.given()}
    assert AlgorithmSpec(name=algorithm_of(case), **given).parameters() == parameters


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "egpo"}, "egpo needs `eta`"),
        ({"name": "ipo_md", "mixture": 0.2}, "ipo_md needs `tau`"),
        ({"name": "egpo", "eta": 0.5, "mixture": 0.2}, "`mixture` is a parameter of ipo_md, not of egpo; leave it out"),
        ({"name": "nash_mp", "tau": 0.1, "eta": 0.6}, "`eta` is a parameter of .*, not of nash_mp"),
        ({"name": "mnpo", "eta": 0.5, "weights": [0, 1]}, "`weights` must be non-negative numbers, the first one"),
        ({"name": "mnpo", "eta": 0.5, "weights": []}, "weights"),
        ({"name": "dno", "eta": 0.5, "tau": 0.1}, "`tau` is a parameter of .*, not of dno"),
        ({"name": "nosuch", "eta": 0.5}, "`name` must be one of dno, egpo, inpo"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_by_name(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AlgorithmSpec.model_validate(body)


def test_an_unknown_name_is_an_error_of_its_own_field() -> None:
    with pytest.raises(ValidationError) as caught:
        AlgorithmSpec.model_validate({"name": "nosuch"})
    assert caught.value.errors()[0]["loc"] == ("name",)


@pytest.mark.parametrize("name", ["sppo", "dno"])
def test_win_rates_need_a_selection_that_asks_for_all_comparisons(name: str, tmp_path: Path) -> None:
    body = a_spec_body(tmp_path) | {"algorithm": {"name": name, "eta": 0.5}, "selection": {"method": "random_pairs"}}
    with pytest.raises(ValidationError, match=f"{name} needs the win rate of every response"):
        RunSpec.model_validate(body)
    for method in ("all_pairs", "best_worst"):
        assert RunSpec.model_validate(body | {"selection": {"method": method}}).algorithm.needs_win_rates


def test_the_schema_lists_the_names() -> None:
    assert AlgorithmSpec.model_json_schema()["properties"]["name"]["enum"] == sorted(ALGORITHMS)
