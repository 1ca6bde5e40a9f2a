"""Routes of the judges that fetch their questions: lease comparisons, post verdicts, look at the board."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request

from services.oracle.desk import ComparisonDesk, UnknownComparisonError, VerdictConflictError
from shared.contracts.judging import (
    ComparisonCounts,
    JudgeLabel,
    LeasedComparison,
    LeasedComparisons,
    LeaseRequest,
    VerdictReceipt,
    VerdictRequest,
)
from shared.contracts.problems import Problem
from shared.runtime.http import ProblemError

LOOK_S = 0.25
ComparisonId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="as leased")]

_QUEUE_LOST = {"model": Problem, "description": "Redis cannot be reached; asking again later loses nothing"}
_WRONG_BODY: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "the body is not JSON"},
    413: {"model": Problem, "description": "the body is too large"},
    422: {"model": Problem, "description": "a field is wrong"},
    503: _QUEUE_LOST,
}
_VERDICT_RESPONSES: dict[int | str, dict[str, Any]] = {
    **_WRONG_BODY,
    404: {"model": Problem, "description": "nobody asked a comparison with this id"},
    409: {"model": Problem, "description": "another verdict was first, or an error came after its lease was over"},
}


def add_desk_routes(app: FastAPI, desk: ComparisonDesk) -> None:
    """Serve pull judges. Waiting for a comparison holds no thread."""

    async def lease(body: LeaseRequest, request: Request) -> LeasedComparisons:
        """Open comparisons of a judge, given to nobody else until the lease ends; waits up to `wait_s` for the first.

        A comparison whose lease ran out is given out again, and a verdict under the old lease still counts while it
        is the first.
        """
        ends = time.monotonic() + body.wait_s
        found: list[LeasedComparison] = []
        while not found and not await request.is_disconnected():
            found = await asyncio.to_thread(desk.lease, body)
            remaining_s = ends - time.monotonic()
            if remaining_s <= 0:
                break
            if not found:
                await asyncio.sleep(min(LOOK_S, remaining_s))
        return LeasedComparisons(comparisons=found)

    def verdict(comparison_id: ComparisonId, body: VerdictRequest) -> VerdictReceipt:
        """Take a verdict. Once this answers 200 the verdict is durable; sending it again is harmless."""
        try:
            return desk.receive(comparison_id, body)
        except UnknownComparisonError:
            detail = f"nobody asked a comparison with the id {comparison_id}"
            raise ProblemError(404, "Unknown comparison", detail) from None
        except VerdictConflictError as error:
            raise ProblemError(409, "Verdict does not count", str(error)) from None

    def counts(
        judge: Annotated[JudgeLabel, Query(description="the judge's name")],
        judge_revision: Annotated[JudgeLabel, Query()] = "1",
    ) -> ComparisonCounts:
        """How many comparisons of a judge are open, leased, failed and answered; zeros for a judge never asked."""
        return desk.counts(judge, judge_revision)

    tags: list[Any] = ["judging"]
    app.add_api_route("/v1/comparisons:lease", lease, methods=["POST"], tags=tags, responses=_WRONG_BODY)
    path = "/v1/comparisons/{comparison_id}/verdict"
    app.add_api_route(path, verdict, methods=["POST"], tags=tags, responses=_VERDICT_RESPONSES)
    app.add_api_route("/v1/comparisons", counts, tags=tags, responses={422: _WRONG_BODY[422], 503: _QUEUE_LOST})
