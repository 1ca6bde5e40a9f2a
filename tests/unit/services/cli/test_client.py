"""The REST client: every failure is one error that names the remedy."""

from pathlib import Path

import httpx
import pytest

from services.cli.client import Api, bearer_key
from services.cli.failures import ApiError, UserError
from shared.contracts.rest.problems import FieldError, Problem
from shared.contracts.rest.runs import IterationList, RunList
from shared.runtime.key_files import write_private
from tests.support.cli_views import RUN, Answer, FakeController, a_run, an_iteration


def _problem(status: int, **fields: object) -> httpx.Response:
    problem = Problem.model_validate({"title": "Wrong", "status": status, "detail": "why", **fields})
    return httpx.Response(status, text=problem.model_dump_json())


def _failure(answer: httpx.Response | Exception) -> ApiError:
    controller = FakeController({"GET /v1/runs": [answer]})
    with pytest.raises(ApiError) as caught:
        controller.api().runs()
    return caught.value


def test_a_run_is_created_from_the_spec_and_the_key_is_sent(tmp_path: Path) -> None:
    view = a_run(tmp_path)
    assert view.spec is not None
    controller = FakeController({"POST /v1/runs": [view]})
    assert controller.api(key="secret").create_run(view.spec) == view
    (request,) = controller.asked
    assert request.headers["Authorization"] == "Bearer secret"
    assert type(view.spec).model_validate_json(request.content) == view.spec


def test_creation_is_sent_again_with_the_same_key_until_there_is_an_answer(tmp_path: Path) -> None:
    """Lost connections, a server that fails and one that still works on the first try; then the run."""
    view = a_run(tmp_path)
    assert view.spec is not None
    trouble: list[Answer] = [
        httpx.ReadError("reset"),
        _problem(503, retryable=True),
        httpx.ConnectError("it restarts"),
        _problem(409, retryable=True),
    ]
    controller = FakeController({"POST /v1/runs": [*trouble, view]})
    assert controller.api().create_run(view.spec) == view
    keys = {request.headers["Idempotency-Key"] for request in controller.asked}
    assert (len(controller.asked), len(keys)) == (5, 1)
    controller.api().create_run(view.spec)
    assert controller.asked[-1].headers["Idempotency-Key"] not in keys


def test_creation_is_not_repeated_where_repeating_cannot_help(tmp_path: Path) -> None:
    """A refusal is final; where nobody listens, the person is told at once; trouble that stays is told in the end."""
    spec = a_run(tmp_path).spec
    assert spec is not None
    cases: list[tuple[Answer, int]] = [
        (_problem(422), 1),
        (httpx.ConnectError("refused"), 1),
        (_problem(503, retryable=True), 5),
    ]
    for answer, tries in cases:
        controller = FakeController({"POST /v1/runs": [answer]})
        with pytest.raises(ApiError):
            controller.api().create_run(spec)
        assert len(controller.asked) == tries


def test_a_connection_that_is_refused_names_inpo_up() -> None:
    error = _failure(httpx.ConnectError("Connection refused"))
    assert "cannot reach a controller at http://127.0.0.1:1" in str(error)
    assert "inpo up" in str(error)
    assert error.retryable


def test_a_controller_that_does_not_answer_is_said_to_be_slow() -> None:
    error = _failure(httpx.ReadTimeout("slow"))
    assert "did not answer within 30 s" in str(error)
    assert error.retryable


def test_a_problem_is_told_with_its_fields() -> None:
    wrong = [FieldError(field="model.path", message="no such directory")]
    error = _failure(_problem(422, errors=wrong))
    assert str(error) == "Wrong:\n  model.path: no such directory"
    assert (error.status, error.retryable) == (422, False)


def test_a_problem_without_fields_is_told_with_its_detail() -> None:
    assert str(_failure(_problem(409))) == "Wrong: why"
    assert _failure(_problem(503, retryable=True)).retryable


def test_a_missing_key_is_explained() -> None:
    assert "INPO_API_KEY_FILE" in str(_failure(_problem(401)))


def test_another_program_on_the_port_is_recognised() -> None:
    for answer in (
        httpx.Response(200, text="<html>"),
        httpx.Response(404, text="nope"),
        httpx.Response(200, text="{}"),
    ):
        assert "something that is not a controller's" in str(_failure(answer))


def test_a_run_id_cannot_lead_to_another_route() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return _problem(404)

    api = Api("http://127.0.0.1:1", transport=httpx.MockTransport(answer))
    with pytest.raises(ApiError):
        api.run("../weights?x=1")
    assert asked == ["/v1/runs/..%2Fweights%3Fx%3D1"]


def test_actions_are_posted() -> None:
    controller = FakeController({f"POST /v1/runs/{RUN}:pause": [_problem(409)]})
    with pytest.raises(ApiError):
        controller.api().change(RUN, "pause")
    assert len(controller.asked) == 1


def test_an_address_that_is_none_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ApiError, match="is not the address of a controller"):
        Api("localhost:8000")


def test_an_empty_list_of_runs_is_a_list() -> None:
    assert FakeController({"GET /v1/runs": [RunList(runs=[])]}).api().runs() == []


def test_the_key_is_the_first_of_the_file_and_else_the_variable(tmp_path: Path) -> None:
    """The file may be the services' own: scopes stand before the keys, and the first key is taken."""
    file = tmp_path / "key"
    for text in ("from-file\nsecond\n", "# all\n\nread,operate from-file\njudge another\n"):
        write_private(file, text)
        assert bearer_key(file, "from-variable") == "from-file"
    assert bearer_key(None, "from-variable") == "from-variable"
    assert bearer_key(None, "") is None
    write_private(file, "")
    for unusable in (file, tmp_path / "none"):
        with pytest.raises(UserError, match="INPO_API_KEY_FILE"):
            bearer_key(unusable, None)


def test_lists_are_followed_page_after_page(tmp_path: Path) -> None:
    """`next` of a page is asked for until there is none, the most rows at once."""
    older = a_run(tmp_path, id="older")
    rows = [an_iteration(number) for number in range(3)]
    controller = FakeController(
        {
            "GET /v1/runs": [RunList(runs=[a_run(tmp_path)], next=RUN), RunList(runs=[older])],
            f"GET /v1/runs/{RUN}/iterations": [
                IterationList(iterations=rows[:2], skipped=[], next=2),
                IterationList(iterations=rows[2:], skipped=[]),
            ],
        }
    )
    assert [view.id for view in controller.api().runs()] == [RUN, "older"]
    assert controller.api().iterations(RUN) == rows
    queries = [str(request.url.query, "ascii") for request in controller.asked]
    assert queries == ["limit=500", f"limit=500&before={RUN}", "limit=500&offset=0", "limit=500&offset=2"]
