"""The lower bound of the duality gap: found by any candidate, never flattered by having been chosen."""

import math

import numpy as np
import pytest

from shared.inpo.gap_bound import Challenger, GapBound, gap_lower_bound
from shared.inpo.gap_estimate import Comparisons
from tests.support.games import a_cycle, a_random_game, a_random_policy
from tests.support.sampled_games import SampledGame, a_large_game, demo_game

NUM_TRIALS = 100


def _bound(samples: Comparisons, tau: float) -> GapBound:
    found = gap_lower_bound([samples], tau)
    assert found is not None
    return found


def test_against_itself_every_policy_is_as_good_as_the_reference() -> None:
    """All comparisons at 1/2, no KL: the reference proves a gap of at least 0, best-of-n would only pay its KL."""
    found = _bound(Comparisons(np.full((64, 64), 0.5), np.zeros(64)), 0.1)
    assert (found.found_by, found.gap.mean, found.win_rate.mean) == ("reference", 0.0, 0.5)


def test_best_of_n_pays_its_kl_and_gains_the_policys() -> None:
    """Every fourth-modulo pattern apart, responses win .9 or .1 by turns of four, so any best of 8 wins .9.

    Of the candidates best-of-8 is the first that always holds a winner: with tau .01 the gap is at least
    2 (.9 - .01 (log 8 - 7/8) + .01 x .2 - .5). Smaller groups hold a winner less often, larger ones pay more.
    """
    rates = np.where(np.arange(256) // 4 % 4 == 0, 0.9, 0.1)
    found = _bound(Comparisons(np.repeat(rates[:, None], 64, axis=1), np.full(64, 0.2)), 0.01)
    assert found.found_by == "best of 8"
    assert found.win_rate.mean == pytest.approx(0.9)
    assert found.gap.mean == pytest.approx(2 * (0.9 - 0.01 * (math.log(8) - 7 / 8) + 0.01 * 0.2 - 0.5))


def test_an_earlier_version_is_a_candidate_and_pays_its_own_kl() -> None:
    """It wins .8 at log-ratios of 1 nat: 2 (.8 - .1 + .1 x .5 - .5) = .5; the reference only 2 (.5 + .05 - .5) = .1."""
    sample = Comparisons(np.full((64, 64), 0.5), np.full(64, 0.5))
    version = Challenger(np.full(64, 0.8), np.ones(64))
    found = gap_lower_bound([sample], 0.1, {"version 3": [version]})
    assert found is not None
    assert found.found_by == "version 3"
    assert (found.win_rate.mean, found.gap.mean) == pytest.approx((0.8, 0.5))


def test_a_prompt_without_an_earlier_versions_responses_is_left_to_the_others() -> None:
    sample = Comparisons(np.full((64, 64), 0.5), np.zeros(64))
    found = gap_lower_bound([sample, sample], 0.1, {"version 1": [Challenger(np.ones(64), np.zeros(64)), None]})
    assert found is not None
    assert (found.found_by, found.gap.mean, found.gap.num) == ("version 1", 1.0, 1)


def test_the_luck_of_the_chosen_is_not_counted() -> None:
    """The judge tosses coins: no response is better than another, though the best of 1,024 seems to win far more often.

    The mean over 40 trials of the proven win rate is 1/2, within three standard errors of 1/sqrt(512 x 8 x 40).
    """
    rng = np.random.default_rng(0)
    rates: list[float] = []
    seeming: list[float] = []
    for _ in range(40):
        wins = (rng.random((64, 32)) < 0.5).astype(np.float64)
        rates.append(_bound(Comparisons(wins, np.zeros(32)), 0.0).win_rate.mean)
        seeming.append(float(wins.mean(axis=1).max()))
    assert math.fsum(seeming) / 40 > 0.65
    assert abs(math.fsum(rates) / 40 - 0.5) < 0.03


@pytest.mark.parametrize("tau", [0.15, 0.0025])
@pytest.mark.parametrize("policy", ["reference", "nash", "random"])
@pytest.mark.parametrize("num_prompts", [1, 4])
def test_its_lower_end_hardly_ever_exceeds_the_exact_gap(tau: float, policy: str, num_prompts: int) -> None:
    """2.5 % are allowed of each; 6 of 100 leave room for chance."""
    for game in (a_cycle(0.95, 0.9, 0.8, tau), a_random_game(100, tau, seed=3)):
        chosen = {
            "reference": game.reference,
            "nash": game.nash(),
            "random": a_random_policy(len(game.reference), seed=1),
        }[policy]
        sampled = SampledGame.of(game, chosen)
        exceeded = 0
        for seed in range(NUM_TRIALS):
            found = gap_lower_bound(sampled.sample(64, seed, num_prompts), tau)
            assert found is not None
            exceeded += found.gap.low > sampled.duality_gap
        assert exceeded <= 6


def test_on_a_game_of_20000_responses_at_the_papers_tau_it_proves_that_the_policy_can_be_beaten() -> None:
    """Where the estimate refuses, best-of-n still proves a good part of the gap, and never more than there is."""
    game = a_large_game(20_000, tau=0.0025, seed=5)
    for seed in range(5):
        found = gap_lower_bound(game.sample(512, seed), game.tau)
        assert found is not None
        assert 0.3 * game.duality_gap < found.gap.low < game.duality_gap


def test_at_tau_zero_it_bounds_the_unregularised_gap() -> None:
    """The demo's game, tau = 0: some response beats the reference policy with 2 (max P - 1/2) to spare."""
    game = demo_game(0)
    best = 2.0 * (float((game.preferences @ game.policy).max()) - 0.5)
    found = gap_lower_bound(game.sample(256, seed=1), 0.0)
    assert found is not None
    assert 0.5 * best < found.gap.mean < 1.1 * best


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (2, 2)])
def test_too_few_samples_prove_nothing(shape: tuple[int, int]) -> None:
    assert gap_lower_bound([Comparisons(np.full(shape, 0.5), np.zeros(shape[1]))], 0.1) is None
    assert gap_lower_bound([], 0.1) is None


def test_comparisons_without_a_verdict_are_left_out() -> None:
    wins = np.full((64, 64), 0.5)
    wins[::3, ::2] = np.nan
    wins[5] = np.nan
    found = _bound(Comparisons(wins, np.zeros(64)), 0.1)
    assert (found.found_by, found.win_rate.mean) == ("reference", 0.5)
