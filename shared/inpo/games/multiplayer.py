"""The game of more than two players that MNPO is about (arXiv 2509.23102)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from shared.inpo.games.finite import FiniteGame


def multiplayer_duality_gap(game: FiniteGame, policies: Sequence[ArrayLike]) -> float:
    """What the player who could gain most would gain by leaving, times two; 0 where nobody would gain: a Nash tuple.

    Each player i has J_i(p) = mean over the others j of P(p ≻ pi_j) - tau KL(p || ref) (MNPO, Eq. 8). The others'
    mean policy is then the opponent, so it is max_i max_p 2 (J_i(p) - J_i(pi_i)). With n equal players, or two, it is
    the two-player duality gap of that policy. Fewer than two players are a ValueError.
    """
    if len(policies) < 2:
        raise ValueError(f"a game needs at least two players, not {len(policies)}")
    players = np.array([game.policy(policy) for policy in policies])
    gains: list[float] = []
    for index, player in enumerate(players):
        others = np.delete(players, index, axis=0).mean(axis=0)
        gains.append(game.value(game.best_response(others), others) - game.value(player, others))
    return 2.0 * max(gains)
