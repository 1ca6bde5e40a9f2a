"""The last check of a swap: that the engine computes what the trainer computed, and no longer what it computed before.

Two questions, both answered over many tokens, because rounding below float32 is larger than a step on every single one:

* Is it the model? The root mean square of engine - trainer must be rounding. How large that is on this engine is
  measured once, on the first version that it accepts: most often the reference policy, for which the digests vouch.
* Is it the step? For token i let x_i be new - old and y_i engine - old, all log-probs. The least-squares slope of y on
  x through the origin, sum(x y) / sum(x x), is 1 for the new weights, 0 for the old ones and something else for a
  mixture; its error shrinks with the number of tokens, so it decides far below the rounding of one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from services.policy.engine import EngineError, SwapRefusedError
from shared.contracts.weights import Canary, Precision

Scores = Sequence[Sequence[float]]
Score = Callable[[Sequence[Sequence[int]]], Scores]
Outcome = Literal["new", "undecided", "unmoved"]
Floats = NDArray[np.float64]

# Root mean square of engine - trainer, in nats a token, by what the engine computes in: below `LEAST` it tells nothing,
# beyond `MOST` no engine is believed to hold the weights, however it rounds.
LEAST: dict[Precision, float] = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
MOST: dict[Precision, float] = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.4}
# Other texts round differently, by a factor that is near 1 over hundreds of tokens.
ROUNDING_MARGIN = 3.0
# Half the slope's interval in standard errors: 1 in 100,000 for normal errors, because a refusal stops the run, and a
# wrong acceptance goes unnoticed.
DEVIATIONS = 4.5
# A slope is as good as 1 within this, whatever the interval: two right forwards differ a little in proportion, too.
SLOPE_MARGIN = 0.05
# Tokens that are scored before it is asked again whether more are needed.
CHUNK_TOKENS = 512

_outcomes = Counter("inpo_canaries", "Canaries by what they decided.", ["outcome"])


@dataclass(frozen=True, slots=True)
class Verdict:
    """An accepted canary.

    `new`: the engine moved as the trainer did. `undecided`: the step is too small, or the rounding too large, for these
    tokens to tell old from new, and only the files' digests vouch for the swap. `unmoved`: there is no step to see, as
    in the reference policy, its own parent.

    `rounding` is the root mean square of engine - trainer in nats a token, `rounding_99` its 99 % quantile. `slope` and
    its standard `error` are None where nothing moved.
    """

    outcome: Outcome
    num_tokens: int
    rounding: float
    rounding_99: float
    slope: float | None = None
    error: float | None = None


class CanaryCheck:
    """Canaries of one engine, which computes in `precision`.

    `tolerance` is the largest rounding of the first accepted version, in nats a token (root mean square); None takes
    what the precision allows.
    """

    def __init__(self, precision: Precision, tolerance: float | None = None) -> None:
        self._least = LEAST[precision]
        self._most = MOST[precision] if tolerance is None else tolerance
        self._precision = precision
        self._rounding: float | None = None

    def check(self, canary: Canary, score: Score) -> Verdict:
        """`SwapRefusedError` when the engine computes another model, the old one, or a mixture of old and new.

        Scores no more tokens than the decision takes.
        """
        try:
            verdict = self._decide(canary, score)
        except SwapRefusedError:
            _outcomes.labels("refused").inc()
            raise
        if self._rounding is None:
            self._rounding = verdict.rounding
        _outcomes.labels(verdict.outcome).inc()
        return verdict

    def _decide(self, canary: Canary, score: Score) -> Verdict:
        seen = _Seen()
        verdict: Verdict | None = None
        for chunk in _chunks(canary):
            seen.add(chunk, _scored(chunk, score))
            verdict = self._verdict(seen)
            if verdict.outcome == "new":
                break
        if verdict is None:
            raise SwapRefusedError("canary.json holds no token to compare: these weights were not published whole")
        return verdict

    def _verdict(self, seen: "_Seen") -> Verdict:
        num = len(seen.engine)
        if not np.isfinite(seen.engine).all():
            raise SwapRefusedError("the engine's log-probs on the canary are not all finite")
        if not np.any(seen.new != seen.old):
            return Verdict("unmoved", num, *self._checked_rounding(seen.engine - seen.new))
        slope, error = self._slope(seen)
        low, high = slope - DEVIATIONS * error, slope + DEVIATIONS * error
        if high < 1.0 - SLOPE_MARGIN or low > 1.0 + SLOPE_MARGIN:
            raise SwapRefusedError(_not_the_step(slope, error, holds_old=low <= SLOPE_MARGIN))
        rounding = self._checked_rounding(seen.engine - seen.new)
        return Verdict("new" if low > 0.0 else "undecided", num, *rounding, slope, error)

    def _checked_rounding(self, difference: Floats) -> tuple[float, float]:
        """Root mean square and 99 % quantile of what must be rounding."""
        rounding = float(np.sqrt(np.mean(difference**2)))
        known = self._rounding is not None
        limit = min(self._most, ROUNDING_MARGIN * max(self._least, self._rounding or 0.0)) if known else self._most
        if rounding > limit:
            raise SwapRefusedError(
                f"the engine computes another model: its log-probs are {rounding:.3g} nats a token away from the "
                f"trainer's (root mean square of {len(difference)} tokens), in {self._precision} {limit:.3g} are "
                "allowed. Is it the server of this run's model, in the precision that it says? If it is, and only "
                "rounds more, set INPO_CANARY_TOLERANCE"
            )
        return rounding, float(np.quantile(np.abs(difference), 0.99))

    def _slope(self, seen: "_Seen") -> tuple[float, float]:
        """The slope, and the largest of three standard errors.

        That of errors of the known rounding; of errors of any size on each token (HC0); and of errors that the tokens
        of a sequence have in common (clustered).
        """
        step = seen.new - seen.old
        power = float(step @ step)
        slope = float(step @ (seen.engine - seen.old)) / power
        parts = step * (seen.engine - seen.old - slope * step)
        rounding = max(self._least, self._rounding or 0.0)
        clustered = np.bincount(seen.sequence, weights=parts)
        variance = max(rounding**2 * power, float(parts @ parts), float(clustered @ clustered))
        return slope, math.sqrt(variance) / power


class _Seen:
    """The tokens compared so far: their log-probs by engine and trainer, and the sequence that each is of."""

    def __init__(self) -> None:
        self.engine = self.new = self.old = np.zeros(0)
        self.sequence = np.zeros(0, dtype=np.int64)

    def add(self, chunk: Canary, scores: Scores) -> None:
        """`SwapRefusedError` unless all three have one value for every token after the sequences' starts."""
        first = int(self.sequence[-1]) + 1 if len(self.sequence) else 0
        counts = [len(row) for row in chunk.log_probs]
        self.engine = np.append(self.engine, _flat(scores, counts, "the engine's answer"))
        self.new = np.append(self.new, _flat(chunk.log_probs, counts, "log_probs"))
        self.old = np.append(self.old, _flat(chunk.parent_log_probs, counts, "parent_log_probs"))
        self.sequence = np.append(self.sequence, first + np.repeat(np.arange(len(counts)), counts))


def _chunks(canary: Canary) -> Iterator[Canary]:
    """Whole sequences in groups of about `CHUNK_TOKENS` compared tokens."""
    _check_shape(canary)
    start = tokens = 0
    for end, row in enumerate(canary.log_probs, start=1):
        tokens += len(row)
        if tokens >= CHUNK_TOKENS or end == len(canary.sequences):
            yield canary.part(start, end)
            start, tokens = end, 0


def _check_shape(canary: Canary) -> None:
    for field, rows in (("log_probs", canary.log_probs), ("parent_log_probs", canary.parent_log_probs)):
        if [len(row) for row in rows] != canary.num_compared():
            raise SwapRefusedError(f"canary.json: {field} does not have one value for every token that is compared")


def _scored(chunk: Canary, score: Score) -> Scores:
    try:
        scores = score(chunk.sequences)
    except EngineError as error:
        raise SwapRefusedError(f"the canary cannot be scored: {error}") from error
    return [row[start - 1 :] for row, start in zip(scores, chunk.first_compared(), strict=True)]


def _flat(rows: Scores, counts: Sequence[int], what: str) -> Floats:
    if [len(row) for row in rows] != list(counts):
        raise SwapRefusedError(f"canary: {what} does not have one value for every token that is compared")
    return np.array([value for row in rows for value in row], dtype=np.float64)


def _not_the_step(slope: float, error: float, *, holds_old: bool) -> str:
    shown = f"{slope:.3g} of the step from the old weights to the new, give or take {error:.2g}"
    if holds_old:
        return f"the engine still computes the old log-probs: it has made {shown}"
    return (
        f"the engine computes neither the old weights nor the new: it has made {shown}; a part of them was not loaded"
    )
