"""The duality gap from samples: right by hand, covering as often as it says, and silent where it would be wrong."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from services.oracle.rules import styles
from shared.inpo import gap_estimate
from shared.inpo.gap_estimate import (
    MIN_EFFECTIVE_SAMPLES,
    Comparisons,
    GapEstimate,
    GapRefusal,
    duality_gap,
)
from tests.support.games import a_cycle, a_random_game, a_random_policy
from tests.support.sampled_games import SampledGame, a_large_game, demo_game

NUM_TRIALS = 100


def test_without_noise_the_estimate_is_the_formula() -> None:
    """All comparisons are at .5 and all log-ratios at .3: 2 (tau .5 / tau + tau .3 - 1/2) = .6 tau, without a width."""
    found = duality_gap([Comparisons(np.full((32, 32), 0.5), np.full(32, 0.3))], 0.1)
    assert isinstance(found, GapEstimate)
    assert (found.interval.mean, found.interval.low, found.interval.high) == pytest.approx((0.06, 0.06, 0.06))
    assert found.effective_samples == pytest.approx(32.0)


def test_the_jackknife_is_that_of_its_definition() -> None:
    """Leaving out one response, and one opponent, by recomputing everything: bias and variance of both add up."""
    rng = np.random.default_rng(1)
    wins, log_ratios, tau = rng.random((40, 30)), rng.normal(0.0, 1.0, 30), 0.5

    def plain(wins: NDArray[np.float64], log_ratios: NDArray[np.float64]) -> float:
        return tau * (math.log(np.exp(wins.mean(axis=1) / tau).mean()) + log_ratios.mean())

    theta = plain(wins, log_ratios)
    rows = np.array([plain(np.delete(wins, i, axis=0), log_ratios) for i in range(40)])
    columns = np.array([plain(np.delete(wins, j, axis=1), np.delete(log_ratios, j)) for j in range(30)])
    expected = 2.0 * (theta - 39 * (rows.mean() - theta) - 29 * (columns.mean() - theta) - 0.5)
    width = 2.0 * 1.959964 * math.sqrt(39 * rows.var() + 29 * columns.var())
    found = duality_gap([Comparisons(wins, log_ratios)], tau)
    assert isinstance(found, GapEstimate)
    assert found.interval.mean == pytest.approx(expected)
    assert found.interval.high - found.interval.mean == pytest.approx(width)


def test_a_comparison_without_a_verdict_counts_neither_as_won_nor_as_lost() -> None:
    """Where opponents are alike, leaving out a tenth of the comparisons changes nothing."""
    rates = np.random.default_rng(2).random((64, 1))
    wins = np.repeat(rates, 64, axis=1)
    holed = np.where(np.random.default_rng(3).random(wins.shape) < 0.1, np.nan, wins)
    whole, partial = (duality_gap([Comparisons(matrix, np.zeros(64))], 0.5) for matrix in (wins, holed))
    assert isinstance(whole, GapEstimate)
    assert isinstance(partial, GapEstimate)
    assert partial.interval.mean == pytest.approx(whole.interval.mean)


@pytest.mark.parametrize(
    ("tau", "wins", "reason"),
    [
        (0.0, np.full((32, 32), 0.5), "at tau = 0"),
        (0.1, np.full((1, 32), 0.5), "needs two judged responses and two judged opponents"),
        (0.1, np.full((32, 32), np.nan), "needs two judged responses and two judged opponents"),
    ],
)
def test_what_no_sample_can_estimate_is_refused_with_the_reason(
    tau: float, wins: NDArray[np.float64], reason: str
) -> None:
    found = duality_gap([Comparisons(wins, np.zeros(32))], tau)
    assert isinstance(found, GapRefusal)
    assert reason in found.reason


def test_one_response_that_outweighs_the_others_is_refused() -> None:
    """One of 64 responses wins always, the others half: weights e^10 : 63 at tau .05, so 1.006 effective samples."""
    wins = np.full((64, 64), 0.5)
    wins[0] = 1.0
    found = duality_gap([Comparisons(wins, np.zeros(64))], 0.05)
    assert isinstance(found, GapRefusal)
    assert found.effective_samples == pytest.approx((math.exp(10) + 63) ** 2 / (math.exp(20) + 63))
    assert f"1.0 effective samples, {MIN_EFFECTIVE_SAMPLES:g} are needed" in found.reason


def test_one_bad_prompt_spoils_the_mean_and_is_refused() -> None:
    wins = np.full((64, 64), 0.5)
    good = Comparisons(wins, np.zeros(64))
    bad = Comparisons(np.where(np.arange(64)[:, None] == 0, 1.0, wins), np.zeros(64))
    assert isinstance(duality_gap([good, bad], 0.05), GapRefusal)


@pytest.mark.parametrize(
    ("wins", "log_ratios", "message"),
    [
        (np.full((2, 3), 0.5), np.zeros(2), r"not \(2, 3\) and \(2,\)"),
        (np.full((2, 2), 1.5), np.zeros(2), r"wins must be probabilities"),
        (np.full((2, 2), 0.5), np.array([0.0, math.inf]), "log_ratios must be finite"),
    ],
)
def test_samples_that_do_not_fit_are_refused_by_name(
    wins: NDArray[np.float64], log_ratios: NDArray[np.float64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Comparisons(wins, log_ratios)


def _coverage(game: SampledGame, num_samples: int, num_prompts: int = 1) -> tuple[float, float]:
    """Share of trials whose interval covers the exact gap, and the mean error."""
    covered, errors = 0, list[float]()
    for seed in range(NUM_TRIALS):
        found = duality_gap(game.sample(num_samples, seed, num_prompts), game.tau)
        assert isinstance(found, GapEstimate)
        covered += found.interval.low <= game.duality_gap <= found.interval.high
        errors.append(found.interval.mean - game.duality_gap)
    return covered / NUM_TRIALS, math.fsum(errors) / NUM_TRIALS


@pytest.mark.parametrize("steps", [0, 1, 3, 10, None], ids=["reference", "1", "3", "10", "nash"])
@pytest.mark.parametrize("num_prompts", [1, 16])
def test_on_the_demos_game_the_interval_covers_the_exact_gap(steps: int | None, num_prompts: int) -> None:
    """INPO's iterates after 0, 1, 3, 10 steps and the Nash policy, 128 responses against 128 opponents as in it."""
    covered, _ = _coverage(demo_game(steps), 128, num_prompts)
    assert covered >= 0.9


@pytest.mark.parametrize("tau", [0.3, 0.05])
def test_on_a_game_of_300_responses_the_interval_covers_the_exact_gap(tau: float) -> None:
    game = a_random_game(300, tau, seed=3)
    for policy in (game.reference, game.nash(), a_random_policy(300, seed=1)):
        covered, _ = _coverage(SampledGame.of(game, policy), 256)
        assert covered >= 0.9


def test_the_jackknife_removes_most_of_the_bias() -> None:
    """At the Nash policy of a cycle, tau .05, 128 opponents, the plain estimate is too high by .0125.

    The opponents' noise is inside the exponential. The standard error over 800 prompts is .0006.
    """
    cycle = a_cycle(0.95, 0.9, 0.8, tau=0.05)
    plain: list[float] = []
    left: list[float] = []
    for sample in SampledGame.of(cycle, cycle.nash()).sample(128, seed=0, num_prompts=800):
        found = duality_gap([sample], cycle.tau)
        rates = sample.wins.mean(axis=1)
        theta = cycle.tau * (math.log(np.exp(rates / cycle.tau).mean()) + float(sample.log_ratios.mean()))
        if isinstance(found, GapEstimate):
            plain.append(2.0 * (theta - 0.5))
            left.append(found.interval.mean)
    assert len(left) > 790
    assert math.fsum(plain) / len(plain) > 0.01
    assert abs(math.fsum(left) / len(left)) < 0.004


def test_at_the_papers_tau_a_game_of_20000_responses_is_refused_every_time() -> None:
    """With tau = .0025 win rates differ by many tau, so that 1,024 samples are worth about one."""
    game = a_large_game(20_000, tau=0.0025, seed=5)
    found = [duality_gap(game.sample(1024, seed), game.tau) for seed in range(20)]
    assert all(isinstance(refusal, GapRefusal) for refusal in found)


def test_without_the_refusal_that_games_interval_would_miss_the_gap_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 samples are worth 1.2. What wins by many tau is mostly missing, and neither estimate nor interval knows.

    95 of 100 intervals should cover; fewer than 80 of 100 do.
    """
    game = a_large_game(20_000, tau=0.0025, seed=5)
    refused = [duality_gap(game.sample(128, seed), game.tau) for seed in range(NUM_TRIALS)]
    assert all(isinstance(refusal, GapRefusal) for refusal in refused)
    monkeypatch.setattr(gap_estimate, "MIN_EFFECTIVE_SAMPLES", 0.0)
    covered, error = _coverage(game, 128)
    assert covered < 0.8
    assert error < 0.0


def test_the_demos_readers_are_the_game_that_these_tests_play() -> None:
    assert np.array_equal(demo_game(0).preferences, np.array(styles.preference_matrix()))
