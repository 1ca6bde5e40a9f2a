"""The oracle's API: `POST /v1/judgments` asks a judge, `GET /v1/judges` says which are loaded."""

from collections.abc import Sequence

from fastapi import FastAPI

from services.oracle.answers import answer_of
from services.oracle.examples import JUDGES, JUDGMENTS
from services.oracle.judge import Comparison, Judge, JudgeBuildError, Opinion
from services.oracle.pool import JudgePool
from services.oracle.settings import OracleSettings
from shared.contracts.judging import (
    JudgeIdentity,
    JudgmentItem,
    JudgmentRequest,
    JudgmentResponse,
    JudgmentResult,
)
from shared.contracts.problems import FieldError
from shared.contracts.spec import JudgeSpec
from shared.runtime.http import ProblemError, Readiness, create_app
from shared.runtime.openapi import refusals


def oracle_app(settings: OracleSettings, judges: JudgePool, *, ready: Readiness = dict) -> FastAPI:
    """The app. Judging blocks a thread of the server's pool, never its event loop."""
    app = create_app("INPO oracle", settings, ready=ready)

    def judgments(request: JudgmentRequest) -> JudgmentResponse:
        """Answers every pair of the request exactly once; a judge that fails on a pair says so in its result."""
        _check_allowed(settings, request)
        judge = _judge(judges, request.judge)
        identity = judge.identity()
        if request.judge_revision not in (None, identity.revision):
            detail = f"judge_revision is {request.judge_revision}, this judge is at {identity.revision}"
            raise ProblemError(409, "Judge changed", detail)
        return JudgmentResponse(judge=identity, results=_judged(request, judge))

    def loaded() -> list[JudgeIdentity]:
        """The judges that are loaded now."""
        return judges.identities()

    changed = refusals({409: "The judge is at another revision than `judge_revision`."})
    app.add_api_route("/v1/judgments", judgments, methods=["POST"], tags=["judging"], responses=changed, **JUDGMENTS)
    app.add_api_route("/v1/judges", loaded, tags=["judging"], **JUDGES)
    return app


def _check_allowed(settings: OracleSettings, request: JudgmentRequest) -> None:
    spec = request.judge
    if spec.kind not in settings.oracle_api_kinds:
        raise _refusal(403, "judge.kind", f"{spec.kind} is not in INPO_ORACLE_API_KINDS")
    if spec.kind == "rules" and not spec.entry_point.startswith(settings.oracle_entry_points):
        prefixes = ", ".join(settings.oracle_entry_points)
        reason = f"{spec.entry_point} is not below {prefixes or 'any prefix'} (INPO_ORACLE_ENTRY_POINTS)"
        raise _refusal(403, "judge.entry_point", reason)
    num = sum(len(item.pairs) for item in request.items)
    if num > settings.oracle_api_max_comparisons:
        reason = f"{num} comparisons are more than {settings.oracle_api_max_comparisons}; send several requests"
        raise _refusal(422, "items", reason)


def _judge(judges: JudgePool, spec: JudgeSpec) -> Judge:
    try:
        return judges.get(spec)
    except JudgeBuildError as error:
        raise _refusal(422, f"judge.{error.field}", error.reason) from error


def _refusal(status: int, field: str, message: str) -> ProblemError:
    title = "Judge not allowed" if status == 403 else "Invalid request"
    return ProblemError(status, title, f"{field}: {message}", errors=[FieldError(field=field, message=message)])


def _judged(request: JudgmentRequest, judge: Judge) -> list[JudgmentResult]:
    asked = [(item, pair) for item in request.items for pair in item.pairs]
    opinions = judge.compare(_comparisons(request.items))
    return [_result(request, item, pair, opinion) for (item, pair), opinion in zip(asked, opinions, strict=True)]


def _comparisons(items: Sequence[JudgmentItem]) -> list[Comparison]:
    comparisons: list[Comparison] = []
    for item in items:
        contents = {response.id: response.content for response in item.responses}
        comparisons.extend(Comparison(item.prompt, contents[first], contents[second]) for first, second in item.pairs)
    return comparisons


def _result(request: JudgmentRequest, item: JudgmentItem, pair: tuple[str, str], opinion: Opinion) -> JudgmentResult:
    return JudgmentResult(
        item_id=item.id,
        pair=pair,
        status=opinion.status,
        p=opinion.probability,
        p_given=opinion.probability_given,
        p_swapped=opinion.probability_swapped,
        answer=answer_of(request.answers, opinion.probability, "draw", request.seed, item.id, *pair),
        latency_s=opinion.latency_s,
        error=opinion.error,
    )
