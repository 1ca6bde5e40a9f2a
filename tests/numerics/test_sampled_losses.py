"""The shipped losses, minimised by gradients, give every exact update; and they give the numbers that they gave."""

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from shared.inpo.algorithms import ALGORITHMS
from shared.inpo.games import trajectory
from shared.inpo.plan import Parameters
from tests.support import golden_losses
from tests.support.games import a_cycle, a_random_game
from tests.support.sampled_training import SoftmaxRun

GOLDEN: dict[str, list[float]] = json.loads(golden_losses.FILE.read_bytes())


def given(parameters: Parameters) -> dict[str, Any]:
    """What `trajectory` wants: the parameters that are not at their defaults, tau being the game's."""
    values = {item.name: getattr(parameters, item.name) for item in fields(parameters)}
    named = {name: value for name, value in values.items() if name in parameters.given() - {"tau", "schedule"}}
    return named | ({"eta": "theorem4"} if parameters.schedule == "theorem4" else {})


def test_every_algorithm_has_a_case() -> None:
    assert {golden_losses.algorithm_of(case) for case in golden_losses.PARAMETERS} == set(ALGORITHMS)


@pytest.mark.parametrize("case", golden_losses.PARAMETERS)
@pytest.mark.parametrize("game", [a_random_game(5, 0.1, 41), a_cycle(0.9, 0.8, 0.6, 0.1)])
def test_a_policy_trained_by_the_shipped_loss_follows_the_exact_trajectory(case: str, game: Any) -> None:
    """Two iterations, all half-steps, trained on the pairs that the plan samples: within 1e-5 of the exact policies."""
    name, parameters = golden_losses.algorithm_of(case), golden_losses.PARAMETERS[case]
    run = SoftmaxRun(game, name, parameters)
    for iterate, half in run.half_steps(2):
        run.log_policies[iterate] = run.train(half)
    exact = trajectory(game, name, 2, update="loss", **given(parameters))
    for iteration in (1, 2):
        trained = next(p for i, p in run.log_policies.items() if (i.iteration, i.half) == (iteration, None))
        np.testing.assert_allclose(np.exp(trained), exact[iteration], atol=1e-5)


@pytest.mark.parametrize("case", golden_losses.PARAMETERS)
def test_the_losses_of_the_first_steps_are_what_they_were(case: str) -> None:
    """In 32 bits, from a fixed start: whoever changes a number of a loss, an anchor or a plan sees it here.

    Meant to change? `python -m tests.support.golden_losses`.
    """
    np.testing.assert_allclose(golden_losses.series(case), GOLDEN[case], rtol=2e-5, atol=1e-6)


def test_golden_series_tell_the_algorithms_apart() -> None:
    """Equal series are of algorithms that are equal: EGPO at eta = tau + 1/2 and Nash-MP with its default weight."""
    of_length = {(one, two) for one in GOLDEN for two in GOLDEN if one < two and len(GOLDEN[one]) == len(GOLDEN[two])}
    equal = {(one, two) for one, two in of_length if np.allclose(GOLDEN[one], GOLDEN[two], rtol=1e-4)}
    assert equal == {("egpo", "nash_mp")}
