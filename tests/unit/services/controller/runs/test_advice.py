"""Warnings at a run's creation: where theory gives no guarantee, with the number that would."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.controller.runs.advice import advice
from shared.contracts.rest.runs import Advice
from shared.inpo.games import softmax
from tests.support.games import a_random_game
from tests.support.specs import a_spec

RANDOM_PAIRS = {"method": "random_pairs"}


def _advice(tmp_path: Path, **changes: Any) -> list[Advice]:
    return advice(a_spec(tmp_path, **({"selection": RANDOM_PAIRS} | changes)))


def test_a_step_above_the_hardest_games_threshold_needs_no_warning(tmp_path: Path) -> None:
    """The demo's tau .15: (1 / pi^2 + .15^2) / .3 = .4127, its eta is .45."""
    assert _advice(tmp_path, algorithm={"name": "inpo", "eta": 0.45, "tau": 0.15}) == []


def test_a_step_below_the_threshold_is_told_the_threshold(tmp_path: Path) -> None:
    (found,) = _advice(tmp_path, algorithm={"name": "inpo", "eta": 0.4, "tau": 0.15})
    assert found.field == "algorithm.eta"
    assert "inpo with eta = 0.4 and tau = 0.15 does not settle" in found.message
    assert "from eta = 0.413 on it settles in every game" in found.message


def test_the_papers_parameters_are_outside_the_stable_range(tmp_path: Path) -> None:
    """Tau .0025 needs (1 / pi^2 + tau^2) / (2 tau) = 20.3."""
    (found,) = _advice(tmp_path, algorithm={"name": "inpo", "eta": 0.0075, "tau": 0.0025})
    assert "from eta = 20.3 on" in found.message
    assert "compare margin_mean with target_mean" in found.message


def test_without_kl_no_step_is_recommended(tmp_path: Path) -> None:
    (found,) = _advice(tmp_path, algorithm={"name": "inpo", "eta": 0.4})
    assert "no step of this algorithm does" in found.message


def test_a_schedule_is_warned_of_while_its_steps_are_too_large(tmp_path: Path) -> None:
    """Tau .1: eta must reach (1 / pi^2 + .01) / .2 = .557, which t = 10 does with .6 and t = 3 does not with .25."""
    algorithm = {"name": "inpo", "tau": 0.1, "schedule": "theorem4"}
    (found,) = _advice(tmp_path, algorithm=algorithm, iterations=3)
    assert found.field == "algorithm.schedule"
    assert "eta = 0.25 (in the last iteration of schedule theorem4)" in found.message
    assert _advice(tmp_path, algorithm=algorithm, iterations=10) == []


@pytest.mark.parametrize(
    ("algorithm", "start"),
    [
        ({"name": "online_ipo", "tau": 0.1}, "online_ipo with tau = 0.1 does not settle"),
        ({"name": "mnpo", "eta": 0.0075, "ratio": 0.3}, "mnpo with eta = 0.0075 does not settle"),
    ],
)
def test_a_parameter_is_named_once_and_only_where_it_is_read(
    tmp_path: Path, algorithm: dict[str, Any], start: str
) -> None:
    (found,) = _advice(tmp_path, algorithm=algorithm)
    assert found.message.startswith(start)


def test_two_steps_an_iteration_settle_with_the_papers_prox_weight(tmp_path: Path) -> None:
    assert _advice(tmp_path, algorithm={"name": "nash_mp", "tau": 0.0025}) == []
    (found,) = _advice(tmp_path, algorithm={"name": "nash_mp", "tau": 0.0025, "prox": 0.01})
    assert found.field == "algorithm.prox"


def test_a_reward_models_answers_have_no_cycle_to_warn_of(tmp_path: Path) -> None:
    judge = {"judge": {"kind": "reward_model", "path": "org/reward"}}
    assert _advice(tmp_path, algorithm={"name": "inpo", "eta": 0.0075, "tau": 0.0025}, oracle=judge) == []


@pytest.mark.parametrize("method", ["tournament", "best_worst"])
@pytest.mark.parametrize(
    ("claim", "named"),
    [
        ({"algorithm": {"name": "inpo", "tau": 0.3, "schedule": "theorem4"}, "iterations": 10}, "schedule theorem4"),
        (
            {
                "algorithm": {"name": "inpo", "eta": 0.5, "tau": 0.3},
                "evaluation": {"num_prompts": 4, "duality_gap": {}},
            },
            "evaluation.duality_gap",
        ),
    ],
)
def test_the_best_against_the_worst_is_no_way_to_claim_convergence(
    tmp_path: Path, method: str, claim: dict[str, Any], named: str
) -> None:
    (found,) = _advice(tmp_path, selection={"method": method}, **claim)
    assert found.field == "selection.method"
    assert f"{method} with {named}: convergence is proven for pairs drawn i.i.d." in found.message
    assert _advice(tmp_path, **claim) == []


def test_a_tournament_without_any_claim_is_fine(tmp_path: Path) -> None:
    selection = {"method": "tournament"}
    assert _advice(tmp_path, selection=selection, algorithm={"name": "inpo", "eta": 0.5, "tau": 0.3}) == []


def test_sppos_official_step_is_beyond_its_approximation(tmp_path: Path) -> None:
    selection = {"method": "best_worst"}
    outside = _advice(tmp_path, selection=selection, algorithm={"name": "sppo", "eta": 0.001})
    inside = _advice(tmp_path, selection=selection, algorithm={"name": "sppo", "eta": 1.0})
    assert any("sppo with 1/eta = 1000" in found.message for found in outside)
    assert not any("1/eta" in found.message for found in inside)


def _update_and_minimiser(step: float) -> float:
    """Total variation between SPPO's multiplicative update and its loss's exact minimiser, at this 1/eta.

    The minimiser of E (f - g)^2 with E e^f = 1, f = log pi/pi_t and g = (P - 1/2) step, solves f + c e^f = g; Newton's
    iterations in f inside a bisection for c.
    """
    game = a_random_game(8, tau=0.1, seed=0)
    gains = (game.win_rates(game.reference) - 0.5) * step
    low, high = -1.0, 1e6
    solution = np.zeros(8)
    for _ in range(200):
        c = (low + high) / 2
        solution = np.minimum(gains, 0.0)
        for _ in range(100):
            residual = solution + c * np.exp(solution) - gains
            solution = solution - np.clip(residual / (1 + c * np.exp(solution)), -1.0, 1.0)
        low, high = (c, high) if game.reference @ np.exp(solution) > 1 else (low, c)
    minimiser = game.reference * np.exp(solution)
    ideal = softmax(np.log(game.reference) + gains)
    return 0.5 * float(np.abs(ideal - minimiser / minimiser.sum()).sum())


def test_the_warning_begins_where_sppos_loss_leaves_its_update() -> None:
    """Exact on a random game of 8 responses: hardly apart at 1/eta = 1, visibly at 10."""
    assert _update_and_minimiser(1.0) < 1e-3
    assert _update_and_minimiser(10.0) > 0.01
