"""A judge whose failures are scripted, and which records what it was asked."""

import threading
from collections.abc import Sequence

from services.oracle.judge import Comparison, Opinion, abstention, failure, opinion
from shared.contracts.rest.judging import JudgeIdentity


class FakeJudge:
    """Prefers the longer response with probability `strength`.

    The first `failures` askings of any comparison holding a response in `failing` (of every comparison when that is
    empty) fail; comparisons holding `unanswerable` are abstentions.
    """

    def __init__(
        self,
        *,
        failures: int = 0,
        failing: frozenset[str] = frozenset(),
        unanswerable: str | None = None,
        strength: float = 0.9,
        revision: str = "r1",
    ) -> None:
        self.batches: list[list[Comparison]] = []
        self._failures_left = failures
        self._failing = failing
        self._unanswerable = unanswerable
        self._strength = strength
        self._revision = revision
        self._lock = threading.Lock()

    def identity(self) -> JudgeIdentity:
        """See `Judge`."""
        return JudgeIdentity(id="fake", revision=self._revision, kind="rules", transitive=True)

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """See `Judge`. One scripted failure is one batch with a failing comparison."""
        with self._lock:
            self.batches.append(list(comparisons))
            fails = self._failures_left > 0 and any(self._is_failing(comparison) for comparison in comparisons)
            self._failures_left -= fails
            return [self._opinion(comparison, fails) for comparison in comparisons]

    @property
    def num_asked(self) -> int:
        """Comparisons asked so far."""
        return sum(len(batch) for batch in self.batches)

    def _is_failing(self, comparison: Comparison) -> bool:
        return not self._failing or bool({comparison.first, comparison.second} & self._failing)

    def _opinion(self, comparison: Comparison, fails: bool) -> Opinion:
        if fails and self._is_failing(comparison):
            return failure("HTTP 503", 0.1)
        if self._unanswerable in (comparison.first, comparison.second):
            return abstention("cannot say", 0.1)
        difference = len(comparison.first) - len(comparison.second)
        given = 0.5 if difference == 0 else self._strength if difference > 0 else 1.0 - self._strength
        return opinion(given, given, 0.1)
