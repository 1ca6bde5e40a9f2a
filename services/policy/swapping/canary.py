"""The last check of a swap: that the engine computes what the trainer computed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.policy.engine import EngineError, SwapRefusedError
from shared.contracts.weights import Canary

Scores = Sequence[Sequence[float]]

# Nats by which two right forwards of one model may differ at least, by the precision that one of them computes in.
ROUNDING = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 2e-2}
MARGIN = 4.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """An accepted canary: the largest |engine - trainer| log-prob of a token in nats, and what it was held against.

    `decisive` is False when old and new weights differ too little on the canary for rounding to tell them apart: then
    only the digests of the files vouch for the swap.
    """

    distance: float
    tolerance: float
    decisive: bool


class CanaryCheck:
    """Canaries of one engine, which computes in `dtype`; `tolerance` in nats is the widest that is ever allowed.

    The first accepted canary measures the engine's rounding. From then on the tolerance is a quarter of the difference
    between the old and the new weights, if that is narrower, but never below four times the rounding. The reference
    policy, its own parent, is held against `tolerance`.
    """

    def __init__(self, tolerance: float, dtype: str) -> None:
        self._widest = tolerance
        self._least = ROUNDING[dtype]
        self._rounding: float | None = None

    def check(self, canary: Canary, score: Callable[[Sequence[Sequence[int]]], Scores]) -> Verdict:
        """`SwapRefusedError` when the engine's log-probs are off, or nearer to the old weights' than to the new."""
        moved = _distance(canary.log_probs, canary.parent_log_probs, "parent_log_probs")
        tolerance = self._tolerance(moved)
        try:
            scores = score(canary.sequences)
        except EngineError as error:
            raise SwapRefusedError(f"the canary cannot be scored: {error}") from error
        new = _distance(scores, canary.log_probs, "log_probs")
        if new > tolerance:
            raise SwapRefusedError(
                f"the engine is {new:.3g} nats away from the trainer's log-probs on the canary, the tolerance is "
                f"{tolerance:.3g}; if the engine serves in a lower precision than float32, raise INPO_CANARY_TOLERANCE"
            )
        old = _distance(scores, canary.parent_log_probs, "parent_log_probs")
        if moved > tolerance and old < new:
            raise SwapRefusedError(
                f"the engine still computes the old log-probs: {old:.3g} nats from them, {new:.3g} from the new"
            )
        if self._rounding is None:
            self._rounding = new
        return Verdict(new, tolerance, decisive=moved > 2 * tolerance)

    def _tolerance(self, moved: float) -> float:
        if self._rounding is None or moved == 0.0:
            return self._widest
        return min(self._widest, max(moved / MARGIN, MARGIN * self._rounding, self._least))


def _distance(scores: Scores, expected: Scores, field: str) -> float:
    if [len(row) for row in scores] != [len(row) for row in expected] or not any(expected):
        raise SwapRefusedError(f"canary.json: {field} does not have one value for every token after the first")
    distances = [
        abs(a - b) for one, other in zip(scores, expected, strict=True) for a, b in zip(one, other, strict=True)
    ]
    # `max` would pass over a NaN that is not the first.
    return max(distances) if all(math.isfinite(distance) for distance in distances) else math.inf
