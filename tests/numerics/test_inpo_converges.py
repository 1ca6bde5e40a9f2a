"""INPO on exact games: it reaches the Nash policy where the theory says so, at the published numbers, and not else."""

import math

import numpy as np
import pytest

from shared.inpo.games import FiniteGame, kl, trajectory
from tests.support.games import REFERENCE, a_cycle, a_random_game


def test_the_published_numbers_of_the_biased_cycle() -> None:
    """Preferences .9/.8/.6, tau .1, computed by an independent implementation."""
    game = a_cycle(0.9, 0.8, 0.6, 0.1)
    nash = game.nash()
    np.testing.assert_allclose(nash, [0.7242, 0.0428, 0.2330], atol=5e-5)
    assert game.duality_gap(REFERENCE) == pytest.approx(0.1298, abs=5e-5)
    assert kl(nash, REFERENCE) == pytest.approx(0.2500, abs=5e-5)
    assert game.stability_threshold() == pytest.approx(0.0731, abs=5e-5)


@pytest.mark.parametrize(
    ("tau", "nash", "gap", "threshold"),
    [(0.01, [0.4086, 0.1003, 0.4911], 0.2098, 0.6491), (0.0025, [0.3829, 0.1186, 0.4985], None, 2.9)],
)
def test_the_published_numbers_under_weak_regularisation(
    tau: float, nash: list[float], gap: float | None, threshold: float
) -> None:
    game = a_cycle(0.9, 0.8, 0.6, tau)
    np.testing.assert_allclose(game.nash(), nash, atol=5e-5)
    assert game.stability_threshold() == pytest.approx(threshold, rel=1e-2)
    assert gap is None or game.duality_gap(REFERENCE) == pytest.approx(gap, abs=5e-5)


def test_the_published_numbers_of_the_symmetric_cycle() -> None:
    game = a_cycle(0.9, 0.9, 0.9, 0.1)
    np.testing.assert_allclose(game.nash(), [0.4607, 0.2127, 0.3267], atol=5e-5)
    assert game.duality_gap(REFERENCE) == pytest.approx(0.1071, abs=5e-5)


@pytest.mark.parametrize(
    ("eta", "gaps"),
    [
        (0.6, {1: 6.92e-2, 3: 2.26e-2, 10: 2.37e-3}),
        (0.3, {1: 3.79e-2, 3: 9.27e-3, 10: 8.72e-5}),
        ("theorem4", {1: 2.79e-2, 3: 5.93e-3, 10: 2.33e-4, 100: 4.83e-8}),
    ],
)
def test_the_published_course_of_the_duality_gap(eta: float | str, gaps: dict[int, float]) -> None:
    game = a_cycle(0.9, 0.8, 0.6, 0.1)
    policies = trajectory(game, "inpo", max(gaps), eta=eta)
    for iteration, gap in gaps.items():
        assert game.duality_gap(policies[iteration]) == pytest.approx(gap, rel=5e-3)


def test_inpo_solves_the_demonstrations_game_in_ten_iterations() -> None:
    """Preferences .95/.9/.8, tau .15, eta .45: from a gap of .1057 to below 1e-3, and on to the Nash policy."""
    game = a_cycle(0.95, 0.9, 0.8, 0.15)
    policies = trajectory(game, "inpo", 200, eta=0.45)
    assert game.duality_gap(REFERENCE) >= 0.10
    assert game.duality_gap(policies[10]) < 1e-3
    assert kl(game.nash(), policies[10]) < 1e-3
    assert kl(game.nash(), policies[200]) < 1e-12


def test_invalid_responses_die_out_of_the_demonstrations_game() -> None:
    """A fourth response that loses to the three styles with .95, given by the reference once in 50 times."""
    preferences = np.full((4, 4), 0.5)
    preferences[:3, :3] = a_cycle(0.95, 0.9, 0.8, 0.15).preference
    preferences[:3, 3], preferences[3, :3] = 0.95, 0.05
    game = FiniteGame(preferences, [*(0.98 * np.array(REFERENCE)), 0.02], 0.15)
    policy = trajectory(game, "inpo", 10, eta=0.45)[-1]
    assert policy[3] < 0.003
    assert game.duality_gap(policy) < 1e-3


@pytest.mark.parametrize("game", [a_cycle(0.9, 0.8, 0.6, 0.1), a_cycle(0.9, 0.8, 0.6, 0.01), a_random_game(8, 0.1, 31)])
def test_under_theorem_4s_steps_the_last_iterate_keeps_its_bound(game: FiniteGame) -> None:
    """KL(pi* || pi_T) <= 32 max(1, (tau B)^2) / (tau^2 (T + 1)), B the largest |log pi_t / ref| on the way."""
    nash, largest = game.nash(), 0.0
    for iteration, policy in enumerate(trajectory(game, "inpo", 500, eta="theorem4")):
        largest = max(largest, float(np.abs(np.log(policy / game.reference)).max()))
        bound = 32 * max(1.0, (game.tau * largest) ** 2) / (game.tau**2 * (iteration + 1))
        assert kl(nash, policy) <= bound


@pytest.mark.parametrize("game", [a_cycle(0.9, 0.8, 0.6, 0.1), a_random_game(8, 0.1, 31)])
def test_under_theorem_4s_steps_t_times_kl_goes_to_zero(game: FiniteGame) -> None:
    """O(1/T) means that T · KL is bounded; without noise it even falls, a hundredfold from 10 to 100."""
    nash, policies = game.nash(), trajectory(game, "inpo", 100, eta="theorem4")
    assert 100 * kl(nash, policies[100]) < 0.01 * 10 * kl(nash, policies[10])


@pytest.mark.parametrize(
    "game", [a_cycle(0.9, 0.8, 0.6, 0.01), a_cycle(0.9, 0.9, 0.9, 0.1), a_random_game(6, 0.02, 32)]
)
def test_the_last_iterate_converges_only_above_the_stability_threshold(game: FiniteGame) -> None:
    """Started near the Nash policy: 3 % below the threshold the distance grows, 3 % above it shrinks."""
    nash = game.nash()
    nudge = np.exp(1e-4 * np.random.default_rng(0).standard_normal(len(nash)))
    start = nash * nudge / (nash @ nudge)
    distances = {
        factor: kl(nash, trajectory(game, "inpo", 4000, start=start, eta=factor * game.stability_threshold())[-1])
        for factor in (0.97, 1.03)
    }
    assert distances[1.03] < 0.5 * kl(nash, start)
    assert distances[0.97] > 2.0 * kl(nash, start)


def test_at_the_papers_own_parameters_the_exact_update_circles() -> None:
    """With tau .0025, eta .0075 is far below the threshold of 2.9: the gap never settles below .15.

    What keeps language models from this is that an epoch at 5e-7 takes only a small part of the step.
    """
    game = a_cycle(0.9, 0.8, 0.6, 0.0025)
    policies = trajectory(game, "inpo", 600, eta=0.0075)
    assert min(game.duality_gap(policy) for policy in policies[-300:]) > 0.15


def test_without_kl_the_last_iterate_leaves_but_the_mixture_keeps_its_bound() -> None:
    """Hedge with eta = sqrt(T / (8 D)), D = log(1 / min ref): gap of the mixture <= 2 sqrt(D / (2 T)).

    Published: the mixture's gap at T = 100 is .0996 under a bound of .215, the last iterate's .347.
    """
    game, num = a_cycle(0.9, 0.8, 0.6, 0.0), 100
    distance = math.log(1 / 0.1)
    policies = trajectory(game, "inpo", num, eta=math.sqrt(num / (8 * distance)))
    mixture = np.mean(policies[:num], axis=0)
    assert game.duality_gap(mixture) <= 2 * math.sqrt(distance / (2 * num))
    assert game.duality_gap(mixture) == pytest.approx(0.0996, rel=2e-2)
    assert game.duality_gap(policies[num]) > 0.3
