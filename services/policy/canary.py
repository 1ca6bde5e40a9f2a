"""The last check of a swap: that the engine computes what the trainer computed."""

import math
from collections.abc import Callable, Sequence

from services.policy.engine import EngineError, SwapRefusedError
from shared.contracts.weights import Canary

Scores = Sequence[Sequence[float]]


def check_canary(canary: Canary, score: Callable[[Sequence[Sequence[int]]], Scores], tolerance: float) -> float:
    """The largest |engine - trainer| log-prob of a canary token, in nats.

    `SwapRefusedError` when it exceeds `tolerance`, or when old and new weights differ by more than the tolerance and
    the engine is nearer to the old ones: it then still serves them, or a part of them.
    """
    try:
        scores = score(canary.sequences)
    except EngineError as error:
        raise SwapRefusedError(f"the canary cannot be scored: {error}") from error
    new = _distance(scores, canary.log_probs, "log_probs")
    if new > tolerance:
        raise SwapRefusedError(
            f"the engine is {new:.3g} nats away from the trainer's log-probs on the canary, the tolerance is "
            f"{tolerance:g}; if the engine serves in a lower precision than float32, raise INPO_CANARY_TOLERANCE"
        )
    old = _distance(scores, canary.parent_log_probs, "parent_log_probs")
    if _distance(canary.log_probs, canary.parent_log_probs, "parent_log_probs") > tolerance and old < new:
        raise SwapRefusedError(f"the engine still computes the old log-probs: {old:.3g} nats from them, {new:.3g} here")
    return new


def _distance(scores: Scores, expected: Scores, field: str) -> float:
    if [len(row) for row in scores] != [len(row) for row in expected] or not any(expected):
        raise SwapRefusedError(f"canary.json: {field} does not have one value for every token after the first")
    distances = [
        abs(a - b) for one, other in zip(scores, expected, strict=True) for a, b in zip(one, other, strict=True)
    ]
    # `max` would pass over a NaN that is not the first.
    return max(distances) if all(math.isfinite(distance) for distance in distances) else math.inf
