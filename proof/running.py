"""Cases through real systems side by side, each a Redis and the four services; what is finished is never run again."""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from proof import measuring
from proof.cases import Case
from proof.results import CaseResult, Results
from services.cli.client import Api
from services.cli.demo.model import DemoModel, demo_model
from services.cli.demo.run import cancel_unfinished
from services.cli.failures import ApiError, StartError, UserError
from services.cli.launcher.up import RunningSystem, UpOptions, running_system
from services.cli.views.watching import ENDED, POLL_S, progress_bar
from shared.contracts.rest.runs import RunDetail

# Systems side by side would otherwise fight for the cores with as many threads each as there are cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(slots=True)
class _Work:
    """What the threads share. `stop` is set once nobody waits for the outcome any more."""

    cases: "queue.SimpleQueue[Case]"
    model: DemoModel
    results: Results
    state_dir: Path
    bars: Progress
    overall: TaskID
    stop: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list[str])


def run_cases(cases: Sequence[Case], results: Results, state_dir: Path, jobs: int, console: Console) -> None:
    """Run those of the cases that have no result yet on `jobs` systems below `state_dir`.

    An interrupted case starts again, a finished one is kept. A `UserError` at the end names cases that failed.
    """
    unique = {case.key: case for case in cases}
    waiting = [case for case in unique.values() if not results.has(case)]
    console.print(f"{len(unique)} runs, {len(unique) - len(waiting)} of them finished before")
    if not waiting:
        return
    pending: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in waiting:
        pending.put(case)
    with progress_bar(console) as bars:
        overall = bars.add_task("all runs", total=len(unique), completed=len(unique) - len(waiting))
        work = _Work(pending, demo_model(state_dir), results, state_dir, bars, overall)
        with ThreadPoolExecutor(jobs) as pool:
            systems = [pool.submit(_run_system, work, number) for number in range(min(jobs, len(waiting)))]
            try:
                for system in as_completed(systems):
                    system.result()
            finally:
                work.stop.set()
    if work.failures:
        raise UserError("\n".join(work.failures))


def _run_system(work: _Work, number: int) -> None:
    """One system that takes case after case until there are none."""
    folder = work.state_dir / f"system-{number}"
    try:
        with running_system(folder, UpOptions(env=ONE_THREAD)) as system:
            cancel_unfinished(Api(system.url))
            while not work.stop.is_set():
                try:
                    case = work.cases.get_nowait()
                except queue.Empty:
                    return
                try:
                    _run_case(work, system, case)
                except UserError as error:
                    work.failures.append(f"{case.title}: {error}")
    except StartError as error:
        work.failures.append(f"system {number}: {error}")


def _run_case(work: _Work, system: RunningSystem, case: Case) -> None:
    started = time.monotonic()
    measuring.forget_peak(system.processes["oracle"])
    api = Api(system.url)
    created = api.create_run(case.spec(work.model.directory, work.model.prompts))
    view = _ended(api, created.id, work, case)
    if view is None:
        return
    if view.state != "succeeded":
        raise UserError(f"the run {view.id} {view.state}: {view.reason or 'no reason given'}")
    found = CaseResult(
        title=case.title,
        commit=measuring.commit(),
        seconds=time.monotonic() - started,
        oracle_bytes=measuring.peak_memory_bytes(system.processes["oracle"]),
        iterates=measuring.iterates(system, view.id),
    )
    work.results.put(case, found)
    work.bars.console.print(f"{case.title}: {found.seconds:.0f} s", markup=False)
    work.bars.advance(work.overall)


def _ended(api: Api, run: str, work: _Work, case: Case) -> RunDetail | None:
    """The run's last view, None when nobody waits for it any more."""
    bar = work.bars.add_task(case.title, total=case.iterations)
    try:
        while not work.stop.wait(POLL_S):
            try:
                view = api.run(run)
            except ApiError as error:
                if not error.retryable:
                    raise
                continue
            work.bars.update(bar, completed=view.progress.iteration - (view.state not in ENDED))
            if view.state in ENDED:
                return view
        return None
    finally:
        work.bars.remove_task(bar)
