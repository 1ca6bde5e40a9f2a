"""Stability from the plans alone, against exact games."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.inpo.algorithms import ALGORITHMS
from shared.inpo.games import FiniteGame, trajectory
from shared.inpo.plan import Parameters
from shared.inpo.stability import (
    HARDEST_CYCLE,
    ROCK_PAPER_SCISSORS,
    frozen,
    growth,
    settles,
    smallest_stable,
)
from tests.support.games import a_certain_cycle, a_random_game

Policy = NDArray[np.float64]


def _certain_cycle(num: int, tau: float) -> FiniteGame:
    """The reference policy is uniform."""
    return FiniteGame(a_certain_cycle(num), np.full(num, 1 / num), tau)


def _exact_growth(name: str, parameters: Parameters) -> float:
    """Of a tiny deviation from the Nash policy, per iteration, in the exact game of three responses."""
    game = _certain_cycle(3, parameters.tau)
    tilted = game.nash() * np.exp(1e-5 * np.array([1.0, -0.5, 0.2]))
    given = {field: getattr(parameters, field) for field in parameters.given() - {"tau"}}
    policies = trajectory(game, name, 25, start=tilted / tilted.sum(), **given)
    sizes = np.linalg.norm(np.log(policies) - np.log(game.nash()), axis=1)
    return float((sizes[25] / sizes[10]) ** (1 / 15))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("inpo", Parameters(eta=0.45, tau=0.1)),
        ("inpo", Parameters(eta=0.5, tau=0.1)),
        ("egpo", Parameters(eta=0.3, tau=0.1)),
        ("nash_mp", Parameters(tau=0.1)),
        ("nash_md", Parameters(eta=0.6, tau=0.1)),
        ("ipo_md", Parameters(tau=0.25, mixture=0.2)),
        ("online_ipo", Parameters(tau=0.3)),
    ],
)
def test_the_linear_growth_is_that_of_the_exact_game(name: str, parameters: Parameters) -> None:
    """Rock, paper, scissors of certain answers, uniform reference: the Nash policy is uniform, w = 1 / (2 sqrt 3)."""
    predicted = growth(ALGORITHMS[name], parameters, ROCK_PAPER_SCISSORS)
    assert predicted == pytest.approx(_exact_growth(name, parameters), rel=2e-3)


@pytest.mark.parametrize("tau", [0.2, 0.1, 0.01])
def test_inpos_threshold_is_the_games(tau: float) -> None:
    """From (w^2 + tau^2) / (2 tau), as `FiniteGame.stability_threshold` has it for the certain cycle of three."""
    found = smallest_stable(ALGORITHMS["inpo"], Parameters(eta=tau, tau=tau), "eta", ROCK_PAPER_SCISSORS)
    assert found == pytest.approx((ROCK_PAPER_SCISSORS**2 + tau**2) / (2 * tau), rel=1e-5)
    assert found == pytest.approx(_certain_cycle(3, tau).stability_threshold(), rel=1e-5)


def test_no_game_is_harder_than_the_hardest_cycle() -> None:
    """At most 1 / pi: random games of 3 to 12 responses stay below it, certain cycles of n approach it from below.

    Their largest eigenvalue is cot(pi / 2n) / (2n): .2887 for 3, .3182 for 51, and 1 / pi = .3183 in the limit.
    """
    tau = 0.2
    limit = (HARDEST_CYCLE**2 + tau**2) / (2 * tau)
    for seed in range(30):
        assert a_random_game(3 + seed % 10, tau, seed).stability_threshold() < limit
    for num in (3, 5, 51):
        frequency = 1 / math.tan(math.pi / (2 * num)) / (2 * num)
        assert _certain_cycle(num, tau).stability_threshold() == pytest.approx((frequency**2 + tau**2) / (2 * tau))
        assert frequency < HARDEST_CYCLE
    assert 1 / math.tan(math.pi / 102) / 102 == pytest.approx(HARDEST_CYCLE, rel=1e-3)


def test_without_kl_no_step_settles() -> None:
    """|1 + i w / eta| > 1 for every eta."""
    assert smallest_stable(ALGORITHMS["inpo_no_kl"], Parameters(eta=0.1), "eta", HARDEST_CYCLE) is None
    assert smallest_stable(ALGORITHMS["dno"], Parameters(eta=0.1), "eta", HARDEST_CYCLE) is None


@pytest.mark.parametrize("tau", [0.5, 0.1, 0.0025])
def test_the_proximal_point_method_settles_at_any_tau(tau: float) -> None:
    factor = growth(ALGORITHMS["nash_mp"], Parameters(tau=tau), HARDEST_CYCLE)
    assert factor is not None
    assert settles(factor)
    assert factor**2 <= 1 / (1 + 2 * tau)


def test_older_iterates_in_the_anchor_settle_what_inpo_does_not() -> None:
    """MNPO's two players at INPO's eta, as on exact games."""
    inpo = growth(ALGORITHMS["inpo"], Parameters(eta=0.3, tau=0.1), ROCK_PAPER_SCISSORS)
    mnpo = growth(ALGORITHMS["mnpo"], Parameters(eta=0.3, tau=0.1), ROCK_PAPER_SCISSORS)
    assert inpo is not None
    assert mnpo is not None
    assert not settles(inpo)
    assert settles(mnpo)


def test_a_logistic_loss_on_pairs_has_another_theory() -> None:
    assert growth(ALGORITHMS["iterative_dpo"], Parameters(beta=0.3), HARDEST_CYCLE) is None


def test_a_schedule_is_judged_by_the_step_that_it_has_reached() -> None:
    """Theorem 4: eta_t = tau (t + 2) / 2, .6 in iteration 10 at tau = .1."""
    reached = frozen(Parameters(tau=0.1, schedule="theorem4"), 10)
    assert (reached.schedule, reached.tau, reached.eta) == ("constant", 0.1, pytest.approx(0.6))
    constant = Parameters(eta=0.3, tau=0.1)
    assert frozen(constant, 10) is constant
