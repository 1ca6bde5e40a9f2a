"""Following a run: a progress bar of the phase, a line an iteration, samples at the end."""

import re
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from services.cli.client import Api
from services.cli.failures import ApiError
from services.cli.views.tables import (
    dropped_text,
    estimate,
    facts_table,
    gap_table,
    iteration_text,
    iterations_table,
    measurements_table,
    samples_table,
)
from shared.contracts.records import DualityGap
from shared.contracts.rest.runs import IterationView, RunDetail

ENDED = ("succeeded", "failed", "cancelled", "unreadable")
POLL_S = 0.5
_NUMBER = re.compile(r"[0-9.]+")
SLOWEST_POLL_S = 5.0


def follow(api: Api, run: str, console: Console, *, pause: Callable[[float], None] = time.sleep) -> RunDetail:
    """Show the run until it ends and return its last view. A controller that restarts meanwhile is waited for.

    KeyboardInterrupt passes through: the run goes on without a watcher.
    """
    with progress_bar(console) as bar:
        task = bar.add_task("waiting", total=None)
        shown: dict[int, bool] = {}
        told = ""
        wait_s = POLL_S
        while True:
            try:
                view = api.run(run)
                _show_new(api, run, console, shown)
            except ApiError as error:
                if not error.retryable:
                    raise
                bar.update(task, description="controller unreachable, trying again", total=None)
                pause(wait_s)
                wait_s = min(SLOWEST_POLL_S, 2 * wait_s)
                continue
            wait_s = POLL_S
            progress = view.progress
            told = _tell_waiting(console, progress.waiting, told)
            total = max(1, progress.total)
            bar.update(task, description=_described(view), completed=progress.done, total=total)
            if view.state in ENDED:
                break
            pause(POLL_S)
    show_end(api, view, console)
    return view


def show_end(api: Api, view: RunDetail, console: Console) -> None:
    """The whole run in tables: its iterations and, once there are measurements, samples of the newest weights."""
    rows = api.iterations(view.id)
    console.print()
    console.print(facts_table(view))
    console.print()
    console.print(iterations_table(rows))
    if any(row.commit is not None for row in rows):
        console.print()
        console.print(measurements_table(rows))
    if any(row.evaluation is not None and row.evaluation.duality_gap is not None for row in rows):
        console.print()
        console.print(gap_table(rows))
    measured = [row.evaluation for row in rows if row.evaluation is not None and row.evaluation.samples]
    if measured:
        console.print()
        console.print(samples_table(measured[-1].samples))


def _show_new(api: Api, run: str, console: Console, shown: dict[int, bool]) -> None:
    """Print iterations that were committed since, and again once they are measured."""
    for row in api.iterations(run):
        measured = row.evaluation is not None
        if (row.commit is None and not measured) or shown.get(row.iteration) in (measured, True):
            continue
        shown[row.iteration] = measured
        console.print(_line(row), markup=False, soft_wrap=True)


def _tell_waiting(console: Console, waiting: str | None, told: str) -> str:
    """Print what holds the run up when it is something else than what was told last; numbers make no difference."""
    kind = _NUMBER.sub("", waiting or told)
    if kind != told:
        console.print(f"held up · {waiting}", markup=False, soft_wrap=True)
    return kind


def _line(row: IterationView) -> str:
    commit, evaluation = row.commit, row.evaluation
    parts = ["reference policy" if commit is None else f"iteration {row.iteration}"]
    if evaluation is None and commit is not None:
        seconds, loss = commit.metrics.get("seconds"), commit.metrics.get("loss")
        parts.append(f"committed as {str(commit.weights).rpartition('/')[2]}, {commit.num_pairs} pairs")
        parts += [f"loss {loss:.4g}"] if loss is not None else []
        parts += [f"{seconds:.1f} s"] if seconds is not None else []
        parts += [dropped_text(commit)] if commit.dropped else []
    if evaluation is not None:
        if evaluation.win_rate is not None:
            win = evaluation.win_rate
            kl = "" if evaluation.kl is None else f", KL {evaluation.kl.mean:.2f} nats"
            parts.append(f"win rate {win.mean:.3f} [{win.low:.3f}, {win.high:.3f}]{kl}")
        else:
            parts.append("measured")
        parts += [_gap(evaluation.duality_gap)] if evaluation.duality_gap is not None else []
        parts.append(f"{evaluation.mean_response_tokens:.0f} tokens a response")
        parts += [f"WARNING {warning}" for warning in evaluation.warnings]
    return " · ".join(parts)


def _gap(gap: DualityGap) -> str:
    if gap.estimate is not None:
        return f"duality gap {estimate(gap.estimate)}"
    bound = f"at least {gap.lower_bound.low:.3f}" if gap.lower_bound is not None else "unknown"
    return f"duality gap {bound}"


def _described(view: RunDetail) -> str:
    if view.state in (*ENDED, "paused", "queued"):
        return view.state
    described = f"iteration {iteration_text(view.progress)} {view.progress.phase}"
    return described if view.progress.waiting is None else f"{described}, {view.progress.waiting[:80]}"


def progress_bar(console: Console) -> Progress:
    """One line that says what is under way, how much of it is done, and since when."""
    return Progress(
        SpinnerColumn(),
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
