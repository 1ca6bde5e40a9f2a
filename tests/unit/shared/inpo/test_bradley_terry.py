"""The Bradley-Terry fit: its equations, its closed forms, and policies whose masses no float holds."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.inpo.games.arrays import log_softmax
from shared.inpo.games.bradley_terry import bradley_terry
from tests.support.games import a_certain_cycle, a_random_game, a_random_policy


def expected_rates(rewards: NDArray[np.float64], mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Win rates against mu that the rewards predict."""
    return (1.0 / (1.0 + np.exp(rewards[None, :] - rewards[:, None]))) @ mu


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num", [2, 5, 40])
def test_the_fit_predicts_every_win_rate(num: int, seed: int) -> None:
    """Where the cross-entropy is smallest, E_{y'~mu} sigma(r(y) - r(y')) = P(y ≻ mu) for every y; E_mu r = 0."""
    game, mu = a_random_game(num, 0.1, seed), a_random_policy(num, seed + 50)
    rewards = bradley_terry(game.preference, np.log(mu))
    np.testing.assert_allclose(expected_rates(rewards, mu), game.preference @ mu, atol=1e-12)
    assert float(mu @ rewards) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("log_mass", [-0.1, -30.0, -5000.0, -1e12, -math.inf])
def test_of_two_responses_the_rewards_differ_by_the_logit_whatever_the_masses(log_mass: float) -> None:
    rewards = bradley_terry(np.array([[0.5, 0.9], [0.1, 0.5]]), log_softmax(np.array([log_mass, 0.0])))
    assert rewards[0] - rewards[1] == pytest.approx(math.log(9.0), rel=1e-12)


@pytest.mark.parametrize(("log_a", "log_b"), [(-40.0, -50.0), (-800.0, -1500.0), (-3e5, -1e4)])
def test_in_a_certain_cycle_the_smallest_masses_decide_the_rewards(log_a: float, log_b: float) -> None:
    """1 beats 2 beats 3 beats 1 for certain, masses 1, a, b, rewards r3 > r1 > r2.

    3's equation: 1 · sigma(r1 - r3) = a · sigma(r3 - r2), hence r3 - r1 = -log a. 2's: b · sigma(r3 - r2) = 1 ·
    sigma(r2 - r1), hence r2 - r1 = log b, both up to terms of a and b.
    """
    rewards = bradley_terry(a_certain_cycle(3), np.array([0.0, log_a, log_b]))
    np.testing.assert_allclose(rewards - rewards[0], [0.0, log_b, -log_a], rtol=1e-12)


def test_equal_responses_share_a_reward_at_any_masses() -> None:
    """Responses 2 and 3 are the same one, against 1 with .3: the logit of .3 apart from it."""
    preference = np.array([[0.5, 0.7, 0.7], [0.3, 0.5, 0.5], [0.3, 0.5, 0.5]])
    rewards = bradley_terry(preference, log_softmax(np.array([-300.0, 0.0, -40.0])))
    np.testing.assert_allclose(rewards - rewards[0], [0.0, *2 * [math.log(0.3 / 0.7)]], atol=1e-12)


def test_a_fit_that_does_not_exist_is_refused() -> None:
    """Two responses always win against the third."""
    with pytest.raises(ArithmeticError, match="some responses win every comparison with the others"):
        bradley_terry(np.array([[0.5, 0.6, 1.0], [0.4, 0.5, 1.0], [0.0, 0.0, 0.5]]), np.log(np.full(3, 1 / 3)))
