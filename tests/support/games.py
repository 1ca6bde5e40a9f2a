"""Exact games for tests."""

import numpy as np
from numpy.typing import NDArray

from shared.inpo.games import FiniteGame, softmax

REFERENCE = (0.6, 0.3, 0.1)


def a_cycle(first: float, second: float, third: float, tau: float) -> FiniteGame:
    """1 beats 2, 2 beats 3, 3 beats 1 with these probabilities; the reference policy is .6/.3/.1."""
    preferences = [[0.5, first, 1 - third], [1 - first, 0.5, second], [third, 1 - second, 0.5]]
    return FiniteGame(preferences, REFERENCE, tau)


def a_certain_cycle(num: int) -> NDArray[np.float64]:
    """Preferences: each of `num` responses certainly beats the next half of the others; opposite ones are tied."""
    ahead = (np.arange(num)[None, :] - np.arange(num)[:, None]) % num
    return np.where((ahead == 0) | (2 * ahead == num), 0.5, np.where(2 * ahead < num, 1.0, 0.0))


def a_random_game(num: int, tau: float, seed: int) -> FiniteGame:
    """Preferences uniform in [0, 1], a reference policy that takes no response less than 1 in 100 times."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.uniform(-0.5, 0.5, (num, num)), 1)
    reference = 0.99 * rng.dirichlet(np.ones(num)) + 0.01 / num
    return FiniteGame(0.5 + upper - upper.T, reference, tau)


def the_published_random_game(tau: float) -> FiniteGame:
    """The game of eight responses that an independent implementation has published figures of."""
    rng = np.random.default_rng(0)
    upper = np.triu(rng.random((8, 8)) - 0.5, 1)
    return FiniteGame(0.5 + upper - upper.T, softmax(rng.normal(size=8)), tau)


def a_random_policy(num: int, seed: int) -> NDArray[np.float64]:
    """A policy with full support."""
    return 0.95 * np.random.default_rng(seed).dirichlet(np.ones(num)) + 0.05 / num
