"""Training in a group of processes: started for one item, ended with it, and never longer alive than the worker.

    worker ── services.trainer.processes.torchrun (torchrun) ──┬─ rank 0
       └ keeps the lease, touches no device           └─ rank 1 …

The group has a session of its own; the worker reads its output, and its result from a file. See `lifeline` for how it
ends when the worker does, at a deadline, while draining, or by kill -9.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import structlog

from services.trainer.errors import GroupFailedError
from services.trainer.processes import lifeline
from services.trainer.processes.assignment import (
    ASSIGNMENT,
    DEATHS,
    LIFELINE,
    RESULT,
    Assignment,
    Deaths,
    Result,
    failures,
    write_json,
)
from services.trainer.settings import TrainerSettings
from services.trainer.step_runner import Summary
from shared.contracts.plans import EvaluationPlan, HalfStepPlan
from shared.contracts.work import WorkItem
from shared.runtime.opening import local_folder
from shared.store.artifacts.store import ArtifactStore

log = structlog.get_logger(__name__)

NUM_LINES_SHOWN = 5
NUM_CHARS_SHOWN = 240
GONE_WITHIN_S = 60.0


class ProcessGroup:
    """Trains and scores by `trainer_num_processes` ranks. Nothing of it is left when a call returns or raises.

    What a rank finds wrong with the work is raised as the exception that the rank raised; `GroupFailedError`, with the
    rank, how it ended and its last lines, for everything else.
    """

    def __init__(self, store: ArtifactStore, settings: TrainerSettings) -> None:
        if settings.trainer_strategy == "deepspeed" and find_spec("deepspeed") is None:
            raise ValueError("trainer_strategy: deepspeed is not installed here: install it, or choose fsdp2")
        self._settings = settings.model_copy(update={"store_dir": local_folder(store, settings)})

    def train(self, item: WorkItem, plan: HalfStepPlan) -> Summary:
        """The step's `weights.json` is durable when this returns."""
        del plan
        return self._run(item)

    def score(self, item: WorkItem, plan: EvaluationPlan) -> Summary:
        """The step's `scores.json` is durable when this returns."""
        del plan
        return self._run(item)

    def _run(self, item: WorkItem) -> Summary:
        with tempfile.TemporaryDirectory(prefix="inpo-group-") as name:
            folder = Path(name)
            # Without the queue's address, which may hold a password and is no affair of a rank's.
            write_json(
                folder / ASSIGNMENT, Assignment(item=item, settings=self._settings), exclude={"settings": {"redis_url"}}
            )
            status, last_lines = self._launch(folder)
            if (folder / RESULT).exists():
                if status != 0:
                    log.warning("group_ended_badly", status=status, consequence="none: the result is durable")
                return Result.model_validate_json((folder / RESULT).read_bytes()).summary
            raise failure_of(folder, status, last_lines)

    def _launch(self, folder: Path) -> tuple[int, list[str]]:
        """The launcher's exit status and the group's last lines, when all its processes are gone."""
        writer = lifeline.make(folder / LIFELINE)
        lines: deque[str] = deque(maxlen=NUM_LINES_SHOWN)
        try:
            process = subprocess.Popen(  # noqa: S603  (our own command)
                [sys.executable, "-P", "-m", "services.trainer.processes.torchrun", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=os.environ | _environment(folder, self._settings),
                start_new_session=True,
            )
        except BaseException:
            os.close(writer)
            raise
        assert process.stdout is not None
        reader = threading.Thread(target=_pass_on, args=(process.stdout, lines), name="group-output", daemon=True)
        reader.start()
        log.info("group_started", pid=process.pid, num_processes=self._settings.trainer_num_processes)
        try:
            status = process.wait()
        finally:
            # Also the end of ranks that outlive a launcher that was killed.
            os.close(writer)
            # The output ends when the last process that can write to it does.
            reader.join(GONE_WITHIN_S)
        if reader.is_alive():
            raise GroupFailedError(f"processes of the training group are still alive {GONE_WITHIN_S:g} s after its end")
        return status, list(lines)


def _environment(folder: Path, settings: TrainerSettings) -> dict[str, str]:
    cores = os.cpu_count() or 1
    threads = settings.trainer_num_threads or max(1, cores // settings.trainer_num_processes)
    return {
        "OMP_NUM_THREADS": str(threads),
        # torchrun starts the ranks without -P; what lies in the current folder is not to be imported.
        "PYTHONSAFEPATH": "1",
        # Whatever is compiled after all meets no lock that a killed process left.
        "TORCH_EXTENSIONS_DIR": str(folder / "extensions"),
    }


def _pass_on(output: IO[str], lines: deque[str]) -> None:
    """Our own lines as they are; those of libraries as one log line each."""
    with output:
        for raw in output:
            line = raw.rstrip()
            if not line:
                continue
            if line.startswith("{"):
                print(line, file=sys.stderr, flush=True)  # noqa: T201  (already a log line)
            else:
                log.info("group_output", line=line)
            lines.append(line)


def failure_of(folder: Path, status: int, last_lines: list[str]) -> Exception:
    """Of several ranks' ends, the one that caused the others."""
    raised = failures(folder)
    for failure in raised:
        known = failure.exception()
        if known is not None:
            return known
    path = folder / DEATHS
    deaths = Deaths.model_validate_json(path.read_bytes()).deaths if path.exists() else []
    # A signal comes from outside; an exception may be about a neighbour that is gone. SIGTERM is how the launcher ends
    # the others.
    deaths.sort(key=lambda death: (death.exit_code == -signal.SIGTERM, death.exit_code > 0))
    killed = [death for death in deaths if death.exit_code < 0 and death.exit_code != -signal.SIGTERM]
    if killed:
        what = f"rank {killed[0].rank} {_how(killed[0].exit_code)}"
    elif raised:
        what = f"rank {raised[0].rank} raised {raised[0].error}: {raised[0].message}"
    elif deaths:
        what = f"rank {deaths[0].rank} {_how(deaths[0].exit_code)}"
    else:
        what = f"the launcher of the ranks {_how(status)}"
    shown = "\n".join(line[:NUM_CHARS_SHOWN] for line in last_lines)
    return GroupFailedError(f"{what}; the group was ended. Its last lines:\n{shown}")


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
