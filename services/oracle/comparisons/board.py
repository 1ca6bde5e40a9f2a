"""Where pull judges fetch comparisons and hand in verdicts. A verdict is durable before it is acknowledged."""

import structlog

from services.oracle.judge import Opinion, abstention, opinion
from services.oracle.judges.pull import board_name, pull_identity
from services.oracle.verdicts.cache import keep_verdict, read_verdict
from shared.contracts.rest.judging import (
    ComparisonCounts,
    LeasedComparison,
    LeaseRequest,
    OpenComparison,
    VerdictReceipt,
    VerdictRequest,
)
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, MissingArtifactError, read_model
from shared.store.board.protocol import Board, Lease

_log = structlog.get_logger(__name__)


class UnknownComparisonError(LookupError):
    """Nobody ever asked this comparison."""


class VerdictConflictError(RuntimeError):
    """The verdict cannot count: another one was first, or the lease is somebody else's."""


class ComparisonBoard:
    """The pull judges' side of the oracle. Every method may raise `QueueUnavailableError`; asking again is harmless."""

    def __init__(self, store: ArtifactStore, board: Board) -> None:
        self._store = store
        self._board = board

    def lease(self, request: LeaseRequest) -> list[LeasedComparison]:
        """Open comparisons, never one that has its verdict; empty when there are none. Does not wait."""
        place = board_name(request.judge, request.judge_revision)
        found: list[LeasedComparison] = []
        while len(found) < request.max_items:
            leases = self._board.lease(place, max_items=request.max_items - len(found), lease_s=request.lease_s)
            if not leases:
                break
            found += [leased for lease in leases if (leased := self._leased(place, lease)) is not None]
        return found

    def receive(self, identity: str, request: VerdictRequest) -> VerdictReceipt:
        """Take a verdict: the first one counts, however late; the same once more is harmless.

        `UnknownComparisonError` and `VerdictConflictError` as they say.
        """
        try:
            asked = read_model(self._store, layout.comparison(identity), OpenComparison)
        except MissingArtifactError:
            raise UnknownComparisonError(identity) from None
        place = board_name(asked.judge, asked.judge_revision)
        if request.status == "error":
            return self._failed(place, identity, request)
        given = _given(request)
        before = read_verdict(self._store, identity)
        kept = before or keep_verdict(self._store, identity, pull_identity(asked.judge, asked.judge_revision), given)
        self._board.settle(place, identity, answered=before is None)
        if (kept.status, kept.probability) != (given.status, given.probability):
            raise VerdictConflictError(f"the comparison was answered before: {kept.status}, p {kept.probability}")
        return VerdictReceipt(id=identity, status=kept.status, p=kept.probability)

    def counts(self, judge: str, judge_revision: str) -> ComparisonCounts:
        """How many comparisons of a judge are in which state; zeros for one that nobody asked anything."""
        counts = self._board.counts(board_name(judge, judge_revision))
        return ComparisonCounts(
            judge=judge,
            judge_revision=judge_revision,
            open=counts.open,
            leased=counts.leased,
            failed=counts.failed,
            answered=counts.answered,
            silent_s=counts.silent_s,
        )

    def _leased(self, place: str, lease: Lease) -> LeasedComparison | None:
        """What a lease stands for; None, and off the board, where there is nothing left to ask."""
        if self._store.exists(layout.verdict(lease.id)):
            self._board.settle(place, lease.id, answered=False)
            return None
        try:
            asked = read_model(self._store, layout.comparison(lease.id), OpenComparison)
        except MissingArtifactError:
            _log.error("comparison_without_text", id=lease.id)
            self._board.settle(place, lease.id, answered=False)
            return None
        return LeasedComparison(
            id=lease.id,
            judge=asked.judge,
            judge_revision=asked.judge_revision,
            prompt=asked.prompt,
            responses=(asked.first, asked.second),
            lease=lease.token,
            expires_at_s=lease.expires_at_s,
        )

    def _failed(self, place: str, identity: str, request: VerdictRequest) -> VerdictReceipt:
        reason = request.reason or "the judge gave no reason"
        if self._store.exists(layout.verdict(identity)):
            raise VerdictConflictError("the comparison was answered before")
        if not self._board.fail(place, identity, request.lease, reason):
            raise VerdictConflictError("the lease is over, or somebody else's; nothing was changed")
        return VerdictReceipt(id=identity, status="error", p=None)


def _given(request: VerdictRequest) -> Opinion:
    if request.status == "abstain":
        return abstention(request.reason or "the judge gave no reason", 0.0)
    return opinion(0.5 if request.p is None else request.p, None, 0.0)
