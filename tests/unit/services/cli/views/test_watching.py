"""Following a run."""

import io
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from services.cli.failures import ApiError
from services.cli.views.watching import follow
from shared.contracts.rest.problems import Problem
from shared.contracts.rest.runs import IterationList, RunDetail
from tests.support.cli_views import RUN, Answer, FakeController, a_run, an_iteration


def _followed(views: list[Answer], iterations: list[Answer]) -> tuple[str, list[float]]:
    """What was printed, and the pauses that were made."""
    controller = FakeController({f"GET /v1/runs/{RUN}": views, f"GET /v1/runs/{RUN}/iterations": iterations})
    console = Console(file=io.StringIO(), width=200)
    pauses: list[float] = []
    follow(controller.api(), RUN, console, pause=pauses.append)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), pauses


def test_an_iteration_is_told_when_it_is_committed_and_when_it_is_measured(tmp_path: Path) -> None:
    running, ended = a_run(tmp_path), a_run(tmp_path, state="succeeded")
    committed = IterationList(iterations=[an_iteration(0), an_iteration(1, measured=False)], skipped=[])
    measured = IterationList(iterations=[an_iteration(0), an_iteration(1, warnings=["KL is large"])], skipped=[])
    text, _ = _followed([running, running, ended], [committed, committed, measured])
    lines = [line for line in text.splitlines() if line.startswith(("iteration 1", "reference policy ·"))]
    assert lines == [
        "reference policy · measured · 12 tokens a response",
        "iteration 1 · committed as v1@111111111111, 42 pairs · loss 12.5 · 7.2 s",
        "iteration 1 · win rate 0.750 [0.610, 0.850], KL 4.50 nats · 12 tokens a response · WARNING KL is large",
    ]


def test_what_an_iteration_dropped_is_told_with_its_commit(tmp_path: Path) -> None:
    row = an_iteration(1, measured=False)
    assert row.commit is not None
    commit = row.commit.model_copy(update={"dropped": {"over-long": 13, "identical responses": 2}})
    rows = IterationList(iterations=[row.model_copy(update={"commit": commit})], skipped=[])
    text, _ = _followed([a_run(tmp_path), a_run(tmp_path, state="succeeded")], [rows])
    assert "42 pairs · loss 12.5 · 7.2 s · 13 x over-long, 2 x identical responses" in text


def test_the_end_shows_the_table_and_samples_before_and_after(tmp_path: Path) -> None:
    rows = IterationList(iterations=[an_iteration(0), an_iteration(1)], skipped=[])
    text, _ = _followed([a_run(tmp_path, state="succeeded")], [rows])
    for part in ("succeeded", "0.750 [0.610, 0.850]", "4.50 [4.10, 4.90]", "42", "12.5", "[p]rompt", "before", "after"):
        assert part in text


def test_rows_that_could_not_be_read_are_said_to_be_those(tmp_path: Path) -> None:
    text, _ = _followed([a_run(tmp_path, state="succeeded")], [IterationList(iterations=[], skipped=[])])
    assert "10, 2 rows skipped when read" in text


def test_a_failed_run_ends_with_its_reason(tmp_path: Path) -> None:
    text, _ = _followed(
        [a_run(tmp_path, state="failed", reason="the judge was down")], [IterationList(iterations=[], skipped=[])]
    )
    assert "the judge was down" in text


def test_a_controller_that_restarts_is_waited_for_with_growing_pauses(tmp_path: Path) -> None:
    down = httpx.ConnectError("refused")
    ended = a_run(tmp_path, state="succeeded")
    _, pauses = _followed([down, down, down, ended], [IterationList(iterations=[], skipped=[])])
    assert pauses == [0.5, 1.0, 2.0]


def test_an_unknown_run_ends_the_watching() -> None:
    problem = Problem(status=404, title="Unknown run", detail="no run has this id")
    unknown = httpx.Response(404, text=problem.model_dump_json())
    with pytest.raises(ApiError, match="Unknown run"):
        _followed([unknown], [unknown])


def test_what_holds_a_run_up_is_told_when_it_changes_whatever_the_output_is(tmp_path: Path) -> None:
    """Also into a pipe, where no progress bar is seen; a number that counts on is no change."""
    running = a_run(tmp_path)

    def held_up(reason: str | None) -> RunDetail:
        return running.model_copy(update={"progress": running.progress.model_copy(update={"waiting": reason})})

    reasons = ["vLLM is away (3 s)", "vLLM is away (4 s)", None, "1 of 3 tries failed: another model"]
    views: list[Answer] = [*(held_up(reason) for reason in reasons), a_run(tmp_path, state="failed")]
    text, _ = _followed(views, [IterationList(iterations=[], skipped=[])])
    lines = [line for line in text.splitlines() if line.startswith("held up")]
    assert lines == ["held up · vLLM is away (3 s)", "held up · 1 of 3 tries failed: another model"]
