"""Views of a run as the controller answers them, and a controller that answers from a list."""

from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import BaseModel

from services.cli.client import Api
from shared.contracts.records import Commit, Estimate, EvaluationResult, Sample
from shared.contracts.rest.runs import IterationView, Progress, RunDetail, RunState
from shared.contracts.weights import Promotion, WeightVersion
from tests.support.specs import a_spec

Answer = BaseModel | httpx.Response | BaseException

RUN = "small-20250101-120000-5f3a9c0d2b7e4a61c8d0f2b4a6e8135c"


def a_version(number: int) -> WeightVersion:
    """Weights of the run."""
    return WeightVersion(run=RUN, number=number, digest=f"{number}" * 64, directory=f"runs/{RUN}/weights/{number}")


def a_run(tmp_path: Path, state: RunState = "running", **changes: object) -> RunDetail:
    """The run in its first iteration, judging."""
    view = RunDetail(
        id=RUN,
        name="small",
        state=state,
        created_at="2025-01-01T12:00:00+00:00",
        progress=Progress(iteration=1, num_iterations=3, phase="judging", done=1, total=3),
        weights=None,
        latest=None,
        num_prompts=10,
        num_skipped=2,
        spec=a_spec(tmp_path),
        skipped=[],
    )
    return view.model_copy(update=changes)


def an_evaluation(number: int, **changes: object) -> EvaluationResult:
    """Measurements of a version that wins 3 of 4."""
    result = EvaluationResult(
        version=a_version(number),
        win_rate=Estimate(mean=0.75, low=0.61, high=0.85, num=64) if number else None,
        kl=Estimate(mean=4.5, low=4.1, high=4.9, num=64),
        mean_response_tokens=12.0,
        truncated_share=0.1,
        distinct_response_share=0.9,
        unjudged_share=0.0,
        samples=[Sample(prompt="[p]rompt", reference="before", response="after")],
    )
    return result.model_copy(update=changes)


def an_iteration(number: int, *, measured: bool = True, **changes: object) -> IterationView:
    """A committed iteration; row 0 is the reference policy."""
    commit = Commit(
        iteration=number,
        weights=a_version(number),
        num_pairs=42,
        digests={},
        metrics={"loss": 12.5, "seconds": 7.25},
    )
    evaluation = an_evaluation(number, **changes) if measured else None
    return IterationView(iteration=number, commit=commit if number else None, evaluation=evaluation)


def a_promotion(number: int) -> Promotion:
    """A version promoted as the first one."""
    return Promotion(
        number=1, action="promote", version=a_version(number), at="2025-01-01T12:00:00+00:00", by="me", previous=None
    )


class FakeController:
    """Answers each `METHOD path` with the next of its answers, the last one for ever; `asked` is what came in."""

    def __init__(self, answers: dict[str, list[Answer]]) -> None:
        self._answers = {route: list(values) for route, values in answers.items()}
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        self.asked.append(request)
        values = self._answers[f"{request.method} {request.url.path}"]
        answer = values.pop(0) if len(values) > 1 else values[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, text=answer.model_dump_json())

    def api(self, key: str | None = None) -> Api:
        """A client of this controller."""
        return an_api(self, key)


def an_api(handler: Callable[[httpx.Request], httpx.Response], key: str | None = None) -> Api:
    """A client whose requests the handler answers."""
    return Api("http://127.0.0.1:1", key, transport=httpx.MockTransport(handler), pause=lambda seconds: None)
