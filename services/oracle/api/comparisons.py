"""Routes of the judges that fetch their questions: lease comparisons, post verdicts, look at the board."""

from contextlib import nullcontext
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request

from services.oracle.api.examples import COUNTS, LEASE, VERDICT
from services.oracle.comparisons.board import ComparisonBoard, UnknownComparisonError, VerdictConflictError
from services.oracle.comparisons.waiting import WaitingRoom
from shared.contracts.rest.judging import (
    ComparisonCounts,
    JudgeLabel,
    LeasedComparisons,
    LeaseRequest,
    VerdictReceipt,
    VerdictRequest,
)
from shared.runtime.http.app import ProblemError
from shared.runtime.http.lanes import Places
from shared.runtime.http.openapi import refusals
from shared.runtime.http.requests import Caller

ComparisonId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="as leased")]

_QUEUE_LOST = {503: "Redis cannot be reached; asking again later loses nothing."}
_VERDICT_REFUSALS = {
    404: "Nobody asked a comparison with this id.",
    409: "Another verdict was first, or an error came after its lease was over.",
}


def add_comparison_routes(app: FastAPI, board: ComparisonBoard, max_waiting: int) -> None:
    """Serve pull judges. Waiting for a comparison holds no thread; `max_waiting` leases of one key may wait at once."""
    room, places = WaitingRoom(board), Places(max_waiting, "waiting leases")

    async def lease(body: LeaseRequest, request: Request, caller: Caller) -> LeasedComparisons:
        """Open comparisons of a judge, given to nobody else until the lease ends; waits up to `wait_s` for the first.

        A comparison whose lease ran out is given out again, and a verdict under the old lease still counts while it
        is the first.
        """
        waits = places.taken(caller) if body.wait_s > 0.0 else nullcontext()
        with waits:
            found = await room.lease(body, request.is_disconnected)
        return LeasedComparisons(comparisons=found)

    def verdict(comparison_id: ComparisonId, body: VerdictRequest) -> VerdictReceipt:
        """Take a verdict. Once this answers 200 the verdict is durable; sending it again is harmless."""
        return _received(board, comparison_id, body)

    def counts(
        judge: Annotated[JudgeLabel, Query(description="the judge's name")],
        judge_revision: Annotated[JudgeLabel, Query()] = "1",
    ) -> ComparisonCounts:
        """How many comparisons of a judge are open, leased, failed and answered; zeros for a judge never asked."""
        return board.counts(judge, judge_revision)

    tags: list[Any] = ["judging"]
    lost = refusals(_QUEUE_LOST)
    full = refusals({429: "The key has too many leases waiting.", **_QUEUE_LOST})
    app.add_api_route("/v1/comparisons:lease", lease, methods=["POST"], tags=tags, responses=full, **LEASE)
    refused = refusals({**_VERDICT_REFUSALS, **_QUEUE_LOST})
    path = "/v1/comparisons/{comparison_id}/verdict"
    app.add_api_route(path, verdict, methods=["POST"], tags=tags, responses=refused, **VERDICT)
    app.add_api_route("/v1/comparisons", counts, tags=tags, responses=lost, **COUNTS)


def _received(board: ComparisonBoard, comparison_id: str, body: VerdictRequest) -> VerdictReceipt:
    try:
        return board.receive(comparison_id, body)
    except UnknownComparisonError:
        detail = f"nobody asked a comparison with the id {comparison_id}"
        raise ProblemError(404, "Unknown comparison", detail) from None
    except VerdictConflictError as error:
        raise ProblemError(409, "Verdict does not count", str(error)) from None
