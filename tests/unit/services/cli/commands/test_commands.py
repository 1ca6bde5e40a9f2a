"""The commands as a person types them: output, exit codes, no tracebacks."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from services.cli import client
from services.cli.main import app
from shared.contracts.rest.runs import IterationList, RunList, WeightsList, WeightsView
from shared.contracts.weights import PromotedWeights
from tests.support.cli_views import (
    RUN,
    Answer,
    FakeController,
    a_promotion,
    a_run,
    a_version,
    an_evaluation,
    an_iteration,
)
from tests.support.specs import a_spec_body

USAGE_ERROR = 2


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no running system of this machine reaches the commands."""
    for name in ("INPO_URL", "INPO_API_KEY", "INPO_API_KEY_FILE", "INPO_STORE_DIR", "INPO_REDIS_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INPO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")


def _inpo(*arguments: str) -> tuple[int, str]:
    """Exit code and everything that was printed, lines folded to one space."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def _serve(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[Answer]]) -> FakeController:
    """Every client of the commands talks to this controller."""
    controller = FakeController(answers)
    real = httpx.Client

    def fake(**options: Any) -> httpx.Client:
        changed: dict[str, Any] = options | {"transport": httpx.MockTransport(controller)}
        return real(**changed)

    monkeypatch.setattr(client.httpx, "Client", fake)
    return controller


def _file(tmp_path: Path) -> str:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(a_spec_body(tmp_path)))
    return str(file)


def test_help_teaches_with_examples() -> None:
    code, text = _inpo("--help")
    assert code == 0
    for part in ("inpo demo", "inpo up", "inpo run examples/stories.yaml --set model.path=DIR --watch", "queue retry"):
        assert part in text


@pytest.mark.parametrize(
    "arguments", [["run"], ["nonsense"], ["runs", "--watch"], ["up", "--port", "0"], ["queue", "retry"]]
)
def test_a_command_that_is_typed_wrongly_is_a_usage_error(arguments: list[str]) -> None:
    assert _inpo(*arguments)[0] == USAGE_ERROR


def test_a_run_is_created_and_its_id_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = _serve(monkeypatch, {"POST /v1/runs": [a_run(tmp_path, state="queued")]})
    code, text = _inpo("run", _file(tmp_path), "--set", "seed=3", "--url", "http://127.0.0.1:9")
    assert (code, f"{RUN} is queued: 10 prompts, 2 rows skipped when read" in text) == (0, True)
    assert "to list them now: inpo validate" in text
    assert json.loads(controller.asked[0].content)["seed"] == 3


def test_watching_a_run_that_fails_ends_with_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views: dict[str, list[Answer]] = {
        "POST /v1/runs": [a_run(tmp_path)],
        f"GET /v1/runs/{RUN}": [a_run(tmp_path, state="failed", reason="the judge was down")],
        f"GET /v1/runs/{RUN}/iterations": [IterationList(iterations=[], skipped=[])],
    }
    _serve(monkeypatch, views)
    code, text = _inpo("run", _file(tmp_path), "--watch")
    assert (code, "the judge was down" in text) == (1, True)


def test_ctrl_c_leaves_the_run_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = _serve(monkeypatch, {f"GET /v1/runs/{RUN}": [KeyboardInterrupt()]})
    code, text = _inpo("runs", RUN, "--watch")
    assert (code, "stopped watching; the run goes on" in text) == (0, True)
    assert [request.method for request in controller.asked] == ["GET"]


def test_a_wrong_field_is_one_clear_error_without_traceback(tmp_path: Path) -> None:
    code, text = _inpo("run", _file(tmp_path), "--set", "algorithm.eta=-1")
    assert code == 1
    assert "error:" in text
    assert "algorithm.eta = -1: Input should be greater than 0" in text
    assert "Traceback" not in text


def test_without_a_controller_the_remedy_is_named(tmp_path: Path) -> None:
    code, text = _inpo("runs", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "cannot reach a controller at http://127.0.0.1:9" in text
    assert "inpo up" in text


def test_runs_are_listed_and_one_is_shown_with_its_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = a_run(tmp_path, state="succeeded", latest=an_evaluation(3))
    _serve(
        monkeypatch,
        {
            "GET /v1/runs": [RunList(runs=[view])],
            f"GET /v1/runs/{RUN}": [view],
            f"GET /v1/runs/{RUN}/iterations": [
                IterationList(iterations=[an_iteration(0), an_iteration(1)], skipped=[])
            ],
        },
    )
    assert "0.750 [0.610, 0.850]" in _inpo("runs")[1]
    code, text = _inpo("runs", RUN)
    assert (code, "[p]rompt" in text, "42" in text) == (0, True, True)


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_a_run_is_steered_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    _serve(monkeypatch, {f"POST /v1/runs/{RUN}:{action}": [a_run(tmp_path, state="paused")]})
    assert _inpo(action, RUN) == (0, f"{RUN} is paused ")


def test_nothing_yet_is_said_with_what_brings_something(monkeypatch: pytest.MonkeyPatch) -> None:
    _serve(monkeypatch, {"GET /v1/runs": [RunList(runs=[])], "GET /v1/weights": [WeightsList(weights=[])]})
    assert "inpo run FILE creates one" in _inpo("runs")[1]
    assert "first iteration's commit" in _inpo("weights")[1]


def test_the_queue_of_no_system_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    assert "start one with `inpo up`" in _inpo("queue", "show")[1]
    code, text = _inpo("queue", "show", "--redis-url", "redis://127.0.0.1:9/0")
    assert (code, "--store-dir" in text) == (1, True), "whose queue on that Redis is not known"
    store = ("--store-dir", str(tmp_path))
    code, text = _inpo("queue", "show", *store, "--redis-url", "redis://127.0.0.1:9/0")
    assert (code, "cannot reach Redis at redis://127.0.0.1:9/0" in text) == (1, True)
    assert "--redis-url" in _inpo("queue", "show", *store, "--redis-url", "nonsense")[1]
    assert "--store-dir" in _inpo("queue", "dead")[1]


@pytest.mark.parametrize("rest", ["@127.0.0.1:9/0", "/x@127.0.0.1:9/0", "?x@127.0.0.1:9/0"])
def test_the_queue_of_a_redis_that_is_out_of_reach_tells_no_password(tmp_path: Path, rest: str) -> None:
    code, text = _inpo("queue", "show", "--store-dir", str(tmp_path), "--redis-url", f"redis://:hunter2{rest}")
    assert (code, "hunter2" in text) == (1, False)


def test_validate_shows_what_would_happen(tmp_path: Path) -> None:
    code, text = _inpo("validate", _file(tmp_path), "--set", "model.path=org/name")
    assert code == 0
    assert "small can begin" in text
    assert "8 for training, 4 held out; 0 rows skipped when read, 0 prompts when rendered" in text
    assert _inpo("validate", str(tmp_path / "none.yaml"))[0] == 1


def test_weights_are_listed_with_the_promoted_one_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [
        WeightsView(version=a_version(number), parent=None, num_parameters=9, size_bytes=2**20, path=f"/store/{number}")
        for number in (0, 1)
    ]
    promoted = PromotedWeights(current=a_promotion(1), history=[a_promotion(1)])
    _serve(monkeypatch, {"GET /v1/weights": [WeightsList(weights=views)], "GET /v1/weights/promoted": [promoted]})
    code, text = _inpo("weights")
    assert code == 0
    assert f"{RUN} 1 111111111111 9 1.0 MiB promoted /store/1" in text
    assert f"{RUN} 0 000000000000 9 1.0 MiB /store/0" in text


def test_promote_and_rollback_tell_what_is_served_then(monkeypatch: pytest.MonkeyPatch) -> None:
    routes: dict[str, list[Answer]] = {
        f"POST /v1/weights/{RUN}@2:promote": [a_promotion(2)],
        "POST /v1/weights:rollback": [a_promotion(1)],
    }
    controller = _serve(monkeypatch, routes)
    assert _inpo("weights", "promote", RUN, "2") == (
        0,
        f"{RUN}/v2@222222222222 is promoted: /v1/completions of the policy service answers with it ",
    )
    assert f"{RUN}/v1@" in _inpo("weights", "rollback")[1]
    assert len(controller.asked) == 2
    assert _inpo("weights", "promote", RUN, "two")[0] == USAGE_ERROR
