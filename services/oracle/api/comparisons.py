"""Routes of the judges that fetch their questions: lease comparisons, post verdicts, look at the board."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request

from services.oracle.api.examples import COUNTS, LEASE, VERDICT
from services.oracle.comparisons.board import ComparisonBoard, UnknownComparisonError, VerdictConflictError
from shared.contracts.rest.judging import (
    ComparisonCounts,
    JudgeLabel,
    LeasedComparison,
    LeasedComparisons,
    LeaseRequest,
    VerdictReceipt,
    VerdictRequest,
)
from shared.runtime.http.app import ProblemError
from shared.runtime.http.openapi import refusals

LOOK_S = 0.25
ComparisonId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="as leased")]

_QUEUE_LOST = {503: "Redis cannot be reached; asking again later loses nothing."}
_VERDICT_REFUSALS = {
    404: "Nobody asked a comparison with this id.",
    409: "Another verdict was first, or an error came after its lease was over.",
}


def add_comparison_routes(app: FastAPI, board: ComparisonBoard) -> None:
    """Serve pull judges. Waiting for a comparison holds no thread."""

    async def lease(body: LeaseRequest, request: Request) -> LeasedComparisons:
        """Open comparisons of a judge, given to nobody else until the lease ends; waits up to `wait_s` for the first.

        A comparison whose lease ran out is given out again, and a verdict under the old lease still counts while it
        is the first.
        """
        ends = time.monotonic() + body.wait_s
        found: list[LeasedComparison] = []
        while not found and not await request.is_disconnected():
            found = await asyncio.to_thread(board.lease, body)
            remaining_s = ends - time.monotonic()
            if remaining_s <= 0:
                break
            if not found:
                await asyncio.sleep(min(LOOK_S, remaining_s))
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
    app.add_api_route("/v1/comparisons:lease", lease, methods=["POST"], tags=tags, responses=lost, **LEASE)
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
