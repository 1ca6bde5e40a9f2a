"""Exact games seen through samples, as the services see a language model's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.oracle.rules import styles
from shared.inpo.games import FiniteGame, trajectory
from shared.inpo.gap_estimate import Comparisons

Vector = NDArray[np.float64]

DEMO_TAU, DEMO_ETA = 0.15, 0.45
DEMO_REFERENCE = (0.02, 0.59, 0.29, 0.1)


@dataclass(frozen=True)
class SampledGame:
    """A policy of a game whose exact gap is known. `preferences` may be a product: rows and columns are looked up."""

    preferences: Vector
    reference: Vector
    policy: Vector
    tau: float
    duality_gap: float

    @classmethod
    def of(cls, game: FiniteGame, policy: ArrayLike) -> "SampledGame":
        """The game's own matrix and gap."""
        return cls(game.preference, game.reference, np.asarray(policy), game.tau, game.duality_gap(policy))

    def sample(self, num: int, seed: int, num_prompts: int = 1) -> Sequence[Comparisons]:
        """`num` responses of the reference against `num` opponents from the policy, for each of some equal prompts."""
        rng = np.random.default_rng([seed, num])
        return [self._prompt(num, rng) for _ in range(num_prompts)]

    def _prompt(self, num: int, rng: np.random.Generator) -> Comparisons:
        responses = rng.choice(len(self.reference), num, p=self.reference)
        opponents = rng.choice(len(self.policy), num, p=self.policy)
        log_ratios = np.log(self.policy[opponents] / self.reference[opponents])
        return Comparisons(self.wins(responses, opponents), log_ratios)

    def wins(self, responses: NDArray[np.int64], opponents: NDArray[np.int64]) -> Vector:
        """P(response beats opponent), all against all."""
        return self.preferences[np.ix_(responses, opponents)]


@dataclass(frozen=True)
class FactoredGame(SampledGame):
    """P(a beats b) = 1/2 + f_a · g_b for a large number of responses; `preferences` holds f beside g, six columns."""

    def wins(self, responses: NDArray[np.int64], opponents: NDArray[np.int64]) -> Vector:
        """See `SampledGame`."""
        return 0.5 + self.preferences[responses, :4] @ self.preferences[opponents, 4:].T


def demo_game(steps: int | None) -> SampledGame:
    """The demo's game after that many exact INPO steps from the reference policy; None is its Nash policy."""
    game = FiniteGame(np.array(styles.preference_matrix()), DEMO_REFERENCE, DEMO_TAU)
    policy = game.nash() if steps is None else trajectory(game, "inpo", steps, eta=DEMO_ETA)[-1]
    return SampledGame.of(game, policy)


def a_large_game(num: int, tau: float, seed: int) -> SampledGame:
    """P(a beats b) = 1/2 + s_a - s_b + .09 (u_a v_b - v_a u_b): part quality, part cycle, all in [.02, .98].

    The reference policy is a Dirichlet draw, the policy prefers quality. The exact gap takes O(num), because win rates
    against the policy need its means of s, u and v only.
    """
    rng = np.random.default_rng(seed)
    quality = np.clip(rng.normal(0.0, 0.05, num), -0.15, 0.15)
    first, second = rng.uniform(-1.0, 1.0, (2, num))
    ones = np.ones(num)
    reference = 0.99 * rng.dirichlet(np.ones(num)) + 0.01 / num
    policy = reference * np.exp(5.0 * quality)
    policy /= policy.sum()
    left = np.stack([quality, ones, 0.09 * first, 0.09 * second], axis=1)
    right = np.stack([ones, -quality, second, -first], axis=1)
    rates = 0.5 + left @ (policy @ right)
    free_energy = tau * float(np.logaddexp.reduce(np.log(reference) + rates / tau))
    kl = float(policy @ np.log(policy / reference))
    gap = 2.0 * (free_energy + tau * kl - 0.5)
    return FactoredGame(np.concatenate([left, right], axis=1), reference, policy, tau, gap)
