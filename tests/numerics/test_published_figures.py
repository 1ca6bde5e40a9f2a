"""Figures of an implementation that shares nothing with this one: courses, rates and thresholds, reproduced to 1 %.

But for three kinds of them:

* DPO near a vertex. Its Bradley-Terry fit has a ridge of 1e-14, so that responses with a smaller product of masses get
  no reward, and ends after 60 Newton steps: whoever does the same finds its figures (`ridged`), and the policy stays at
  the vertex. `EXACT` has what 200 to 400 digits give instead: it goes on, round and round.
* Chaotic courses end in rounding. At tau = .0025, EGPO's at eta <= .1 differ between 60 and 120 digits, INPO's at
  eta = .05 between 64 bits and more.
* The random game of its ONPO figures is not known; that of all the others is.
"""

import math
from typing import Any

import numpy as np
import pytest

from services.cli.game.views import parse_entry
from shared.inpo.games import FiniteGame, Vector, softmax, trajectory
from tests.support.games import REFERENCE, a_certain_cycle, a_cycle, the_published_random_game

BIASED, SYMMETRIC, RANDOM = a_cycle(0.9, 0.8, 0.6, 0.1), a_cycle(0.9, 0.9, 0.9, 0.1), the_published_random_game(0.1)
GAMES = {"biased": BIASED, "weak": a_cycle(0.9, 0.8, 0.6, 0.01), "random": RANDOM}

# Game, algorithm; duality gap and KL to Nash after 1, 3, 10, 100 and 1,000 iterations; 0 stands for below 1e-10.
ITERATIONS = (1, 3, 10, 100, 1000)
PUBLISHED = """
biased inpo:eta=.6                      6.92e-2 1.71e-1 2.26e-2 8.83e-2 2.37e-3 8.95e-3       0       0       0       0
biased inpo:eta=44.717                  1.29e-1 2.49e-1 1.27e-1 2.46e-1 1.20e-1 2.36e-1 5.77e-2 1.47e-1 8.00e-4 2.89e-3
biased inpo:eta=theorem4                2.79e-2 1.66e-1 5.93e-3 2.41e-2 2.33e-4 8.55e-4 4.83e-8 1.65e-7       0       0
biased inpo:eta=.3                      3.79e-2 1.38e-1 9.27e-3 4.09e-2 8.72e-5 3.08e-4       0       0       0       0
biased inpo_no_kl:eta=.6                6.92e-2 1.71e-1 1.91e-2 8.60e-2 8.94e-3 8.09e-2 7.70e-1    2.38 7.59e-2    2.23
biased nash_md:eta=.6                   6.92e-2 1.71e-1 2.37e-2 9.43e-2 4.20e-3 1.64e-2 3.79e-4 1.38e-3 3.79e-4 1.38e-3
biased nash_md:eta=theorem4             2.79e-2 1.66e-1 1.29e-2 5.72e-2 1.52e-3 6.05e-3 1.01e-5 3.50e-5 1.11e-7 3.80e-7
biased egpo:eta=.6                      6.46e-2 1.52e-1 1.86e-2 6.46e-2 1.29e-3 4.78e-3       0       0       0       0
biased nash_mp                          6.46e-2 1.52e-1 1.86e-2 6.46e-2 1.29e-3 4.78e-3       0       0       0       0
biased mnpo:eta=.6                      6.92e-2 1.71e-1 3.20e-2 1.05e-1 5.19e-3 2.13e-2       0       0       0       0
biased mnpo:eta=.6,opponents=mixture    6.92e-2 1.71e-1 3.30e-2 1.12e-1 6.08e-3 2.54e-2       0       0       0       0
biased online_ipo                       4.00e-2 2.62e-1 2.71e-3 8.54e-3 1.36e-5 4.70e-5       0       0       0       0
biased ipo_md                           4.00e-2 2.62e-1 1.39e-3 4.41e-3 2.35e-4 8.51e-4 2.11e-4 7.58e-4 2.11e-4 7.58e-4
biased sppo:eta=.6                      6.92e-2 1.71e-1 1.91e-2 8.60e-2 8.94e-3 8.09e-2 7.70e-1    2.38 7.59e-2    2.23
biased sppo:eta=.6,update=loss          7.02e-2 1.72e-1 1.95e-2 8.68e-2 8.93e-3 7.96e-2 7.67e-1    2.33 7.59e-2    2.22
weak inpo:eta=.51                       1.26e-1 5.34e-1 8.73e-2 5.40e-1 1.07e-1 4.52e-1 2.56e-1 2.22e-1 7.97e-2 1.79e-1
weak inpo:eta=31.167                    2.08e-1 5.14e-1 2.05e-1 5.14e-1 1.94e-1 5.12e-1 8.25e-2 4.88e-1 5.84e-2 3.08e-1
weak inpo:eta=theorem4                  1.64e-1    6.73 4.98e-1    3.28 1.63e-1    3.88 9.97e-2 5.53e-1 6.45e-3 2.14e-3
weak inpo:eta=.03                       1.64e-1    3.37 3.90e-1    2.39 5.36e-1    2.51 7.49e-2    2.77 1.62e-1    9.48
weak inpo_no_kl:eta=.51                 1.26e-1 5.34e-1 8.91e-2 5.46e-1 1.07e-1 4.98e-1 4.34e-1    1.72 1.37e-1    5.44
weak nash_md:eta=.51                    1.26e-1 5.34e-1 8.73e-2 5.43e-1 1.08e-1 4.58e-1 2.26e-1 2.30e-1 5.49e-2 1.46e-1
weak nash_md:eta=theorem4               1.64e-1    6.73 4.98e-1    3.34 1.62e-1    3.41 9.36e-2 5.28e-1 6.73e-3 2.17e-3
weak egpo:eta=.51                       1.18e-1 4.65e-1 7.89e-2 4.03e-1 9.06e-2 2.91e-1 4.50e-4 1.79e-4       0       0
weak nash_mp                            1.18e-1 4.65e-1 7.89e-2 4.03e-1 9.06e-2 2.91e-1 4.50e-4 1.79e-4       0       0
weak mnpo:eta=.51                       1.26e-1 5.34e-1 6.83e-2 5.06e-1 1.15e-1 4.27e-1 1.17e-1 8.01e-2 9.01e-9 3.47e-9
weak mnpo:eta=.51,opponents=mixture     1.26e-1 5.34e-1 6.98e-2 5.37e-1 1.19e-1 4.83e-1 3.43e-1 2.09e-1 1.33e-1 8.21e-2
weak online_ipo                         1.64e-1  1.01e1 8.14e-1  3.04e1 1.64e-1  3.84e1 1.64e-1  3.84e1 1.64e-1  3.84e1
weak ipo_md                             1.64e-1  1.01e1 8.14e-1  3.03e1 1.64e-1  3.84e1 1.64e-1  3.84e1 1.64e-1  3.84e1
weak sppo:eta=.51                       1.26e-1 5.34e-1 8.91e-2 5.46e-1 1.07e-1 4.98e-1 4.34e-1    1.72 1.37e-1    5.44
weak sppo:eta=.51,update=loss           1.28e-1 5.31e-1 8.72e-2 5.43e-1 1.07e-1 4.96e-1 3.70e-1    1.69 1.35e-1    5.40
random inpo:eta=.6                      4.75e-2 1.35e-1 2.08e-2 6.15e-2 1.52e-3 4.76e-3       0       0       0       0
random inpo:eta=49.576                  7.37e-2 2.02e-1 7.30e-2 2.00e-1 7.03e-2 1.94e-1 4.44e-2 1.26e-1 7.63e-4 2.53e-3
random inpo:eta=theorem4                1.91e-2 5.73e-2 3.96e-3 1.11e-2 1.84e-4 4.76e-4 4.38e-8 1.09e-7       0       0
random inpo:eta=.3                      3.07e-2 8.98e-2 7.08e-3 2.06e-2 8.49e-5 2.21e-4       0       0       0       0
random inpo_no_kl:eta=.6                4.75e-2 1.35e-1 1.71e-2 5.07e-2 3.25e-2 1.18e-1 6.70e-1    2.55    1.28  2.78e1
random nash_md:eta=.6                   4.75e-2 1.35e-1 2.15e-2 6.35e-2 3.27e-3 9.34e-3 4.89e-4 1.27e-3 4.89e-4 1.27e-3
random nash_md:eta=theorem4             1.91e-2 5.73e-2 1.02e-2 2.79e-2 1.53e-3 4.19e-3 1.00e-5 2.69e-5 1.00e-7 2.67e-7
random egpo:eta=.6                      4.58e-2 1.29e-1 1.81e-2 5.40e-2 9.05e-4 3.11e-3       0       0       0       0
random nash_mp                          4.58e-2 1.29e-1 1.81e-2 5.40e-2 9.05e-4 3.11e-3       0       0       0       0
random mnpo:eta=.6                      4.75e-2 1.35e-1 2.76e-2 8.05e-2 4.21e-3 1.31e-2       0       0       0       0
random mnpo:eta=.6,opponents=mixture    4.75e-2 1.35e-1 2.82e-2 8.23e-2 4.77e-3 1.46e-2       0       0       0       0
random online_ipo                       2.67e-2 8.28e-2 1.81e-2 4.63e-2 2.94e-2 9.00e-2 5.38e-2 1.25e-1 5.42e-2 1.23e-1
random ipo_md                           2.67e-2 8.28e-2 8.55e-3 2.16e-2 7.01e-3 1.87e-2 2.40e-4 6.22e-4 2.66e-4 6.83e-4
random sppo:eta=.6                      4.75e-2 1.35e-1 1.71e-2 5.07e-2 3.25e-2 1.18e-1 6.70e-1    2.55    1.28  2.78e1
random sppo:eta=.6,update=loss          4.78e-2 1.35e-1 1.74e-2 5.15e-2 3.19e-2 1.15e-1 6.81e-1    2.62    1.26  2.78e1
"""

# The same of DPO, exactly; infinite where a mass is no float. Compare `RIDGED`.
EXACT = """
biased iterative_dpo:beta=.1,reference=fixed  .0755   1.84   .940   11.4  .0760   9.03  .0760   9.03  .0760   9.03
biased iterative_dpo:beta=.6                  .0304   .184  .0171   .236   .717   1.96   .830   9.29   .830   41.5
weak iterative_dpo:beta=.01,reference=fixed    .164   45.7   .814  140.6   .164  198.0   .164  198.0   .164  198.0
weak iterative_dpo:beta=.51                    .131   .973   .127   1.07   .594   1.58   .622  10.24   .622  36.38
random iterative_dpo:beta=.1,reference=fixed   .184   1.55   1.06   8.15   .234  16.96   .234  16.97   .234  16.97
random iterative_dpo:beta=.6                  .0190  .0571  .0682   .310   .241   2.02   .223  17.57   .597    inf
"""

# What was published of DPO near vertices: game, beta, reference, iteration, duality gap, KL to Nash.
RIDGED: list[tuple[str, float, str, int, float, float]] = [
    ("biased", 0.1, "fixed", 10, 0.613, 2.10),
    ("weak", 0.01, "fixed", 3, 0.164, 45.7),
    ("weak", 0.01, "fixed", 100, 0.210, 0.515),
    ("biased", 0.6, "moving", 100, 0.830, 29.2),
    ("weak", 0.51, "moving", 100, 0.622, 20.4),
]


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line]


@pytest.mark.parametrize("row", rows(PUBLISHED + EXACT), ids=lambda row: " ".join(row[:2]))
def test_a_course_is_the_published_one_or_the_exact_one(row: list[str]) -> None:
    """To 1 %: three digits were published, and below 1e-10 rounding is compared."""
    game, entry = GAMES[row[0]], parse_entry(row[1])
    policies = trajectory(game, entry.algorithm, ITERATIONS[-1], **entry.parameters)
    for iteration, gap, distance in zip(ITERATIONS, row[2::2], row[3::2], strict=True):
        measured = game.duality_gap(policies[iteration]), game.kl_to_nash(policies[iteration])
        for found, expected in zip(measured, (gap, distance), strict=True):
            assert found == pytest.approx(float(expected), rel=1e-2, abs=1e-10)


def ridged(preference: Vector, mu: Vector) -> Vector:
    """The Bradley-Terry fit by at most 60 Newton steps on the cross-entropy, with a ridge of 1e-14."""
    weights: Vector = np.outer(mu, mu)
    rewards: Vector = np.zeros(len(mu))
    for _ in range(60):
        odds: Vector = 1.0 / (1.0 + np.exp(rewards[None, :] - rewards[:, None]))
        slope: Vector = weights * odds * (1.0 - odds)
        hessian: Vector = np.diag(slope.sum(axis=1)) - slope + 1e-14 * np.eye(len(mu))
        gradient: Vector = (weights * (preference - odds)).sum(axis=1)
        rewards = rewards + np.linalg.solve(hessian, gradient)
    return rewards


@pytest.mark.parametrize(("name", "beta", "reference", "iteration", "gap", "distance"), RIDGED)
def test_a_ridge_in_the_fit_explains_the_published_figures_of_dpo_near_vertices(
    name: str, beta: float, reference: str, iteration: int, gap: float, distance: float
) -> None:
    game = GAMES[name]
    logs = np.log(game.reference)
    for _ in range(iteration):
        anchor = np.log(game.reference) if reference == "fixed" else logs
        logs = np.log(softmax(anchor + ridged(game.preference, np.exp(logs)) / beta))
    assert game.duality_gap(np.exp(logs)) == pytest.approx(gap, rel=1e-2)
    assert game.kl_to_nash(np.exp(logs)) == pytest.approx(distance, rel=1e-2)
    exact = trajectory(game, "iterative_dpo", iteration, beta=beta, reference=reference)[-1]
    assert abs(game.kl_to_nash(exact) - distance) > 0.5


def test_the_random_game_is_the_published_one() -> None:
    """Its Nash policy, the reference's gap and KL to Nash, its threshold."""
    nash = [0.0150, 0.0126, 0.2076, 0.4010, 0.1315, 0.0078, 0.0069, 0.2175]
    np.testing.assert_allclose(RANDOM.nash(), nash, atol=5.1e-5)
    assert RANDOM.duality_gap(RANDOM.reference) == pytest.approx(0.0741, abs=5e-5)
    assert RANDOM.kl_to_nash(RANDOM.reference) == pytest.approx(0.2034, abs=5e-5)
    assert RANDOM.stability_threshold() == pytest.approx(0.1076, abs=5e-5)


HORIZONS = (10, 30, 100, 300, 1000, 3000)


@pytest.mark.parametrize(
    ("game", "mixture", "last"),
    [
        (
            BIASED,
            [9.14e-2, 6.90e-2, 4.34e-2, 2.39e-2, 9.69e-3, 3.28e-3],
            [5.74e-2, 3.29e-2, 1.37e-2, 5.05e-3, 8e-4, 3.25e-5],
        ),
        (
            RANDOM,
            [5.90e-2, 4.89e-2, 3.52e-2, 2.18e-2, 9.76e-3, 3.68e-3],
            [4.43e-2, 3.09e-2, 1.57e-2, 5.48e-3, 7.63e-4, 3.76e-5],
        ),
    ],
)
def test_inpos_mixture_at_the_tuned_step(game: FiniteGame, mixture: list[float], last: list[float]) -> None:
    """Theorem 3 with D = KL(Nash || ref), eta = sqrt(T / (2 D)): gaps of mixture and last iterate."""
    distance = game.kl_to_nash(game.reference)
    for num, mixed, final in zip(HORIZONS, mixture, last, strict=True):
        policies = trajectory(game, "inpo", num, eta=math.sqrt(num / (2.0 * distance)))
        assert game.duality_gap(policies[:num].mean(axis=0)) == pytest.approx(mixed, rel=1e-2)
        assert game.duality_gap(policies[num]) == pytest.approx(final, rel=1e-2)


@pytest.mark.parametrize(
    ("game", "mixture", "last"),
    [
        (
            a_cycle(0.9, 0.8, 0.6, 0.0),
            [9.86e-2, 0.119, 9.96e-2, 2.10e-2, 3.32e-2, 6.84e-3],
            [0.159, 0.122, 0.347, 0.466, 0.498, 0.472],
        ),
        (
            the_published_random_game(0.0),
            [9.68e-2, 9.09e-2, 0.103, 4.71e-2, 2.69e-2, 1.46e-2],
            [0.118, 0.105, 0.336, 0.212, 0.338, 0.228],
        ),
    ],
)
def test_hedges_mixture_at_the_tuned_step(game: FiniteGame, mixture: list[float], last: list[float]) -> None:
    """Without tau, D = log(1 / min ref), eta = sqrt(T / (8 D))."""
    distance = math.log(1.0 / float(game.reference.min()))
    for num, mixed, final in zip(HORIZONS, mixture, last, strict=True):
        policies = trajectory(game, "inpo_no_kl", num, eta=math.sqrt(num / (8.0 * distance)))
        assert game.duality_gap(policies[:num].mean(axis=0)) == pytest.approx(mixed, rel=1e-2)
        assert game.duality_gap(policies[num]) == pytest.approx(final, rel=1e-2)


@pytest.mark.parametrize(
    ("game", "distances"),
    [
        (BIASED, [8.55e-4, 1.71e-5, 1.65e-7, 2.15e-9, 1.77e-11]),
        (RANDOM, [4.76e-4, 1.08e-5, 1.09e-7, 1.44e-9, 1.19e-11]),
    ],
)
def test_kl_to_nash_under_theorem_4s_steps(game: FiniteGame, distances: list[float]) -> None:
    policies = trajectory(game, "inpo", 1000, eta="theorem4")
    found = [game.kl_to_nash(policies[num]) for num in HORIZONS[:5]]
    np.testing.assert_allclose(found, distances, rtol=1e-2)


def decay(game: FiniteGame, algorithm: str, num: int, **parameters: Any) -> float:
    """Factor an iteration of KL to Nash, from a ten-thousandth of its first value to 1e-12; NaN if it stays above."""
    distances = np.array([game.kl_to_nash(policy) for policy in trajectory(game, algorithm, num, **parameters)])
    [counted] = np.nonzero((distances < 1e-4 * distances[0]) & (distances > 1e-12))
    if len(counted) < 4:
        return math.nan
    first, last = counted[0], counted[-1]
    return float((distances[last] / distances[first]) ** (1.0 / (last - first)))


CERTAIN = FiniteGame(a_certain_cycle(3), REFERENCE, 0.1)


@pytest.mark.parametrize(
    ("game", "tau", "num", "nash_mp", "inpo", "threshold"),
    [
        (RANDOM, 0.005, 3024, 0.9791, math.nan, 0.802),
        (RANDOM, 0.02, 774, 0.9228, 0.9625, 0.267),
        (RANDOM, 0.1, 174, 0.6892, 0.7197, 0.108),
        (RANDOM, 1.0, 37, 0.1101, 0.1134, 0.508),
        (BIASED, 0.005, 3024, 0.9286, math.nan, 1.4),
        (BIASED, 0.02, 774, 0.8867, 0.9641, 0.277),
        (BIASED, 0.1, 174, 0.6823, 0.7072, 0.0731),
        (BIASED, 1.0, 37, 0.1086, 0.1156, 0.505),
        (CERTAIN, 0.005, 3024, 0.7604, math.nan, 8.33),
        (CERTAIN, 0.02, 774, 0.7123, math.nan, 2.09),
        (CERTAIN, 0.1, 174, 0.5344, 0.9045, 0.428),
        (CERTAIN, 1.0, 37, 0.1011, 0.1298, 0.521),
    ],
)
def test_linear_rates_and_thresholds(
    game: FiniteGame, tau: float, num: int, nash_mp: float, inpo: float, threshold: float
) -> None:
    """Nash-MP and EGPO, and INPO at the same eta = tau + 1/2, which converges where that is above the threshold."""
    game = FiniteGame(game.preference, game.reference, tau)
    assert game.stability_threshold() == pytest.approx(threshold, rel=1e-2)
    assert decay(game, "nash_mp", num) == pytest.approx(nash_mp, rel=1e-2)
    assert decay(game, "egpo", num, eta=tau + 0.5) == pytest.approx(nash_mp, rel=1e-2)
    assert decay(game, "inpo", num, eta=tau + 0.5) == pytest.approx(inpo, rel=1e-2, nan_ok=True)
    assert math.isnan(inpo) == (tau + 0.5 < threshold)


@pytest.mark.parametrize(
    ("game", "beta", "low", "high"),
    [
        (SYMMETRIC, 0.1, 0.4627, 1.0211),
        (SYMMETRIC, 0.4, 0.4569, 0.9480),
        (SYMMETRIC, 1.0, 0.0364, 0.0364),
        (SYMMETRIC, 4.0, 0.0828, 0.0828),
        (BIASED, 0.1, 0.0760, 0.9404),
        (BIASED, 0.4, 0.0001, 0.0001),
        (BIASED, 1.0, 0.0154, 0.0154),
        (BIASED, 4.0, 0.0819, 0.0819),
    ],
)
def test_dpo_with_a_fixed_reference_settles_elsewhere_or_not_at_all(
    game: FiniteGame, beta: float, low: float, high: float
) -> None:
    """The gap's range over the last 50 of 300 iterations."""
    gaps = [game.duality_gap(p) for p in trajectory(game, "iterative_dpo", 300, beta=beta, reference="fixed")[-50:]]
    assert min(gaps) == pytest.approx(low, rel=1e-2, abs=5e-5)
    assert max(gaps) == pytest.approx(high, rel=1e-2, abs=5e-5)


def test_dpo_with_uniform_pairs_of_a_symmetric_cycle_learns_nothing() -> None:
    game = FiniteGame(SYMMETRIC.preference, np.full(3, 1 / 3), 0.1)
    np.testing.assert_allclose(trajectory(game, "iterative_dpo", 3, beta=0.4)[-1], np.full(3, 1 / 3), rtol=1e-12)


@pytest.mark.parametrize(
    ("eta", "third", "low", "high", "mixture"),
    [
        (0.0075, 0.605, 0.191, 0.803, 6.61e-2),
        (0.1, 0.148, 0.104, 0.799, 8.48e-3),
        (0.25, 0.160, 7.32e-2, 0.768, 4.76e-3),
        (0.5, 0.121, 7.52e-2, 0.695, 2.83e-3),
        (1.0, 0.094, 7.08e-2, 0.555, 1.04e-3),
    ],
)
def test_at_the_papers_tau_no_last_iterate_of_inpo_settles(
    eta: float, third: float, low: float, high: float, mixture: float
) -> None:
    """Tau = .0025 on the biased cycle: after 3 iterations, in the last 500 of 3,000, of the mixture.

    EGPO solves the game from eta = .25 on.
    """
    game = a_cycle(0.9, 0.8, 0.6, 0.0025)
    policies = trajectory(game, "inpo", 3000, eta=eta)
    gaps = [game.duality_gap(policy) for policy in policies[-500:]]
    assert game.duality_gap(policies[3]) == pytest.approx(third, rel=1e-2)
    assert (min(gaps), max(gaps)) == pytest.approx((low, high), rel=1e-2)
    assert game.duality_gap(policies[:3000].mean(axis=0)) == pytest.approx(mixture, rel=1e-2)
    if eta >= 0.25:
        assert game.duality_gap(trajectory(game, "egpo", 3000, eta=eta)[-1]) < 1e-12


@pytest.mark.parametrize(
    ("inverse", "ideal", "cut"),
    [(0.1, 0.0, 0.5663), (1.0, 0.0002, 0.5350), (10.0, 0.0613, 0.3177), (100.0, 0.3314, 0.0544), (1e3, 0.2990, 0.0044)],
)
def test_sppos_loss_between_its_ideal_update_and_a_threshold(inverse: float, ideal: float, cut: float) -> None:
    """Total variation of the loss's minimiser from the ideal update, and from pi_t · max(P - 1/2, 0), at 1 / eta."""
    found = trajectory(RANDOM, "sppo", 1, eta=1.0 / inverse, update="loss")[1]
    better = RANDOM.reference * np.maximum(RANDOM.win_rates(RANDOM.reference) - 0.5, 0.0)
    for other, expected in ((trajectory(RANDOM, "sppo", 1, eta=1.0 / inverse)[1], ideal), (better / better.sum(), cut)):
        assert 0.5 * float(np.abs(found - other).sum()) == pytest.approx(expected, abs=6e-5)


def test_onpo_on_the_biased_cycle() -> None:
    """Without tau, eta = 2: the mixture of 3,000; with tau = .1, eta = .3: the last iterate's gap."""
    free = a_cycle(0.9, 0.8, 0.6, 0.0)
    assert free.duality_gap(trajectory(free, "onpo", 3000, eta=2.0)[1:].mean(axis=0)) == pytest.approx(1.5e-3, rel=2e-2)
    policies = trajectory(BIASED, "onpo", 30, eta=0.3)
    assert BIASED.duality_gap(policies[10]) == pytest.approx(5.8e-6, rel=1e-2)
    assert BIASED.duality_gap(policies[30]) < 1e-12
