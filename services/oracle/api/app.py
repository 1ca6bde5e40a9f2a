"""The oracle's API: `/v1/judgments` asks a judge, `/v1/comparisons` is where judges fetch what they are asked."""

from fastapi import FastAPI

from services.oracle.api.comparisons import add_comparison_routes
from services.oracle.api.examples import JUDGES, JUDGMENTS
from services.oracle.api.judgments import judged
from services.oracle.comparisons.board import ComparisonBoard
from services.oracle.judge import Judge, JudgeBuildError
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.settings import OracleSettings
from shared.contracts.judges import LocalJudgeSpec
from shared.contracts.rest.judging import JudgeIdentity, JudgmentRequest, JudgmentResponse
from shared.contracts.rest.problems import FieldError
from shared.runtime.http.app import Lane, ProblemError, Readiness, create_app
from shared.runtime.http.openapi import refusals
from shared.runtime.worker.watchdog import WATCHDOG

LANES = (Lane(r"POST /v1/judgments", 16),)

_REFUSALS = refusals(
    {
        403: "This oracle's settings do not allow the judge.",
        404: "No judge of this name is loaded.",
        409: "The judge is at another revision than `judge_revision`.",
        422: "The judge cannot be built.",
    }
)


def oracle_app(
    settings: OracleSettings, judges: JudgeRegistry, board: ComparisonBoard | None = None, *, ready: Readiness = dict
) -> FastAPI:
    """The app; judges that fetch their questions are served with a `board` only.

    Judging blocks threads of a lane of its own, never the event loop nor what others need.
    """
    app = create_app("INPO oracle", settings, ready=ready, lanes=LANES)

    def judgments(request: JudgmentRequest) -> JudgmentResponse:
        """Answers every pair of the request exactly once; a judge that fails on a pair says so in its result.

        Without items it says who the judge is.
        """
        judge = _judge(settings, judges, request)
        identity = judge.identity()
        if request.judge_revision not in (None, identity.revision):
            detail = f"judge_revision is {request.judge_revision}, this judge is at {identity.revision}"
            raise ProblemError(409, "Judge changed", detail)
        # A rule that never gives the interpreter away would hold up everybody, and the health checks, for ever.
        with WATCHDOG.within(request.deadline_s + settings.deadline_s):
            return JudgmentResponse(judge=identity, results=judged(request, judge))

    def loaded() -> list[JudgeIdentity]:
        """The judges that are loaded now."""
        return judges.identities()

    app.add_api_route("/v1/judgments", judgments, methods=["POST"], tags=["judging"], responses=_REFUSALS, **JUDGMENTS)
    app.add_api_route("/v1/judges", loaded, tags=["judging"], **JUDGES)
    if board is not None:
        add_comparison_routes(app, board, settings.max_streams)
    return app


def _judge(settings: OracleSettings, judges: JudgeRegistry, request: JudgmentRequest) -> Judge:
    num = sum(len(item.pairs) for item in request.items)
    if num > settings.oracle_api_max_comparisons:
        reason = f"{num} comparisons are more than {settings.oracle_api_max_comparisons}; send several requests"
        raise _refusal(422, "items", reason)
    spec = request.judge
    if spec is None:
        raise _refusal(422, "judge", "this oracle has many judges: give a specification, or the id of a loaded one")
    if isinstance(spec, str):
        named = judges.named(spec)
        if named is None:
            raise _refusal(404, "judge", f"no judge with the id {spec!r} is loaded; GET /v1/judges lists them")
        if named.identity().kind not in settings.oracle_api_kinds:
            raise _refusal(403, "judge", f"{spec!r} is not of a kind in INPO_ORACLE_API_KINDS")
        return named
    _check_allowed(settings, spec)
    try:
        return judges.get(spec)
    except JudgeBuildError as error:
        raise _refusal(422, f"judge.{error.field}", error.reason) from error


def _check_allowed(settings: OracleSettings, spec: LocalJudgeSpec) -> None:
    if spec.kind not in settings.oracle_api_kinds:
        raise _refusal(403, "judge.kind", f"{spec.kind} is not in INPO_ORACLE_API_KINDS")
    if spec.kind == "rules" and not spec.entry_point.startswith(settings.oracle_entry_points):
        prefixes = ", ".join(settings.oracle_entry_points)
        reason = f"{spec.entry_point} is not below {prefixes or 'any prefix'} (INPO_ORACLE_ENTRY_POINTS)"
        raise _refusal(403, "judge.entry_point", reason)


def _refusal(status: int, field: str, message: str) -> ProblemError:
    title = {403: "Judge not allowed", 404: "Unknown judge"}.get(status, "Invalid request")
    return ProblemError(status, title, f"{field}: {message}", errors=[FieldError(field=field, message=message)])
