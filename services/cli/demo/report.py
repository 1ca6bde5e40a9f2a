"""What the demo measured: every iterate's distance to the exact Nash policy, from nothing but its sampled responses.

The game has four actions: a response that is invalid, plain, poetic or pirate, as `services.oracle.rules.styles` reads
it. The readers' answer depends on the two actions only, so the game over responses reduces exactly to the game over
shares of the four: its reference policy is the measured shares of the real one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from services.oracle.rules import styles
from shared.contracts.records import Rollout
from shared.inpo.games import FiniteGame, Vector, kl

SMOOTHING = 0.5
NUM_ACTIONS = len(styles.STYLE_NAMES)


@dataclass(frozen=True, slots=True)
class Row:
    """One iterate. Shares are of all responses, styles in the order 1, 2, 3; row 0 is the reference policy.

    Log-prob shifts are the training pairs' means in nats: a squared loss fixes ratios, not levels, so both are shown.
    """

    iteration: int
    style_shares: list[float]
    invalid_share: float
    duality_gap: float
    kl_to_nash: float
    win_rate_vs_reference: float
    seconds: float
    chosen_log_prob_shift: float | None
    rejected_log_prob_shift: float | None


def style_counts(rollouts: Sequence[Rollout]) -> Vector:
    """How many responses are invalid, of style 1, 2 and 3; `ValueError` when there are none at all."""
    counts = np.zeros(NUM_ACTIONS)
    for rollout in rollouts:
        for response in rollout.responses:
            counts[styles.style_of(rollout.prompt[-1].content, response)] += 1.0
    if counts.sum() == 0.0:
        raise ValueError("the evaluation holds no responses")
    return counts


def smoothed_shares(counts: Vector) -> Vector:
    """Shares with half a response added to each action (Jeffreys' prior).

    An action that was never sampled has a small share, not none: log-ratios stay finite, and a gap is never flattered
    by more than half a response.
    """
    padded = counts + SMOOTHING
    return padded / padded.sum()


def exact_game(reference_counts: Vector, tau: float) -> FiniteGame:
    """The readers' game around the reference policy's measured shares."""
    return FiniteGame(np.array(styles.preference_matrix()), smoothed_shares(reference_counts), tau)


class Measure:
    """Rows of one game: the Nash policy is solved once."""

    def __init__(self, game: FiniteGame) -> None:
        self.game = game
        self.nash = game.nash()

    def row(
        self, iteration: int, counts: Vector, win_rate: float | None = None, metrics: Mapping[str, float] | None = None
    ) -> Row:
        """An iterate's row. Without a measured win rate (the reference policy has none) it is 1/2: it meets itself."""
        known: Mapping[str, float] = metrics or {}
        policy, raw = smoothed_shares(counts), counts / counts.sum()
        return Row(
            iteration=iteration,
            style_shares=[float(share) for share in raw[1:]],
            invalid_share=float(raw[styles.INVALID]),
            duality_gap=self.game.duality_gap(policy),
            kl_to_nash=kl(self.nash, policy),
            win_rate_vs_reference=0.5 if win_rate is None else win_rate,
            seconds=known.get("seconds", 0.0),
            chosen_log_prob_shift=known.get("chosen_log_prob_shift"),
            rejected_log_prob_shift=known.get("rejected_log_prob_shift"),
        )


def report(measure: Measure, runs: Mapping[str, Sequence[Row]], seed: int) -> dict[str, Any]:
    """The content of `demo-report.json`."""
    game = measure.game
    return {
        "seed": seed,
        "runs": {method: {"iterations": [asdict(row) for row in rows]} for method, rows in runs.items()},
        "game": {
            "actions": list(styles.STYLE_NAMES),
            "preferences": [[float(value) for value in line] for line in game.preference],
            "tau": game.tau,
        },
        "reference": _by_action(game.reference),
        "nash": _by_action(measure.nash),
    }


def _by_action(policy: Vector) -> dict[str, float]:
    return {name: float(share) for name, share in zip(styles.STYLE_NAMES, policy, strict=True)}
