"""Keeps processes running: each in its own session, restarted with growing pauses, ended as a group."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from services.cli.launcher import lifeline
from services.cli.launcher.health import Health, HealthWatch

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
STEADY_S = 10.0
GRACE_S = 10.0
TICK_S = 0.05


@dataclass(frozen=True, slots=True)
class Command:
    """A process to keep running, in `folder`; its output is appended to `log`, which nobody else can read.

    A foundation is ended after those that need it.

    One with a `health` is ended, with its group, and started again when that fails.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    foundation: bool = False
    health: Health | None = None
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """One process as people see it."""

    name: str
    state: Literal["running", "restarting", "stopped"]
    pid: int | None
    restarts: int
    uptime_s: float
    last_exit: str | None


@dataclass
class _Child:
    command: Command
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    start_at_s: float = 0.0
    quick_deaths: int = 0
    restarts: int = 0
    last_exit: str | None = None
    watch: HealthWatch | None = None
    log_offset: int = field(init=False)

    def __post_init__(self) -> None:
        self.log_offset = self.command.log.stat().st_size if self.command.log.exists() else 0


class Supervisor:
    """Starts commands in the order given and keeps them running until `stop`.

    `held` are descriptors that stay open, in the watchers of the process groups, as long as any group lives.
    """

    def __init__(self, commands: Sequence[Command], *, held: Sequence[int] = ()) -> None:
        self._stopping = threading.Event()
        self._children = [
            _Child(command, watch=None if command.health is None else HealthWatch(command.health, self._stopping))
            for command in commands
        ]
        self._held = tuple(held)
        self._read_end, self._write_end = os.pipe()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every command once, then keep them running from a thread."""
        for child in self._children:
            self._start(child)
        self._thread.start()

    def stop(self) -> None:
        """End every group, foundations last: SIGTERM, up to `GRACE_S`, SIGKILL."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for foundation in (False, True):
            _end([child for child in self._children if child.command.foundation is foundation])
        for descriptor in (self._write_end, self._read_end):
            with suppress(OSError):
                os.close(descriptor)

    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by name: the services' own, each the leader of its group."""
        return {status.name: status.pid for status in self.statuses() if status.pid is not None}

    def statuses(self) -> list[Status]:
        """Every process in the order of starting."""
        return [self._status(child) for child in self._children]

    def failing(self) -> str | None:
        """Name of a process that died three times in a row soon after its start."""
        return next((child.command.name for child in self._children if child.quick_deaths >= 3), None)

    def tail(self, name: str, num_lines: int = 15) -> str:
        """The last lines that a process has logged since this supervisor began."""
        child = next(child for child in self._children if child.command.name == name)
        with suppress(FileNotFoundError), child.command.log.open("rb") as file:
            file.seek(max(child.log_offset, child.command.log.stat().st_size - 65_536))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-num_lines:])
        return ""

    def _supervise(self) -> None:
        while not self._stopping.wait(TICK_S):
            for child in self._children:
                if child.process is None:
                    if time.monotonic() >= child.start_at_s:
                        child.restarts += 1
                        self._start(child)
                elif child.process.poll() is not None:
                    _bury(child)
                elif child.watch is not None and child.watch.ill():
                    # Its process is found dead at the next look.
                    _signal_group(child.process, signal.SIGKILL)

    def _start(self, child: _Child) -> None:
        shim = [sys.executable, "-I", "-S", str(Path(lifeline.__file__)), str(self._read_end)]
        with open(child.command.log, "ab", opener=_private) as log:
            child.process = subprocess.Popen(  # noqa: S603  (our own command lines)
                [*shim, *child.command.arguments],
                env=dict(child.command.environment),
                cwd=child.command.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._read_end, *self._held),
            )
        child.started_s = time.monotonic()
        if child.watch is not None:
            child.watch.started()

    def _status(self, child: _Child) -> Status:
        process = child.process
        alive = process is not None and process.poll() is None
        pause: Literal["restarting", "stopped"] = "stopped" if self._stopping.is_set() else "restarting"
        return Status(
            name=child.command.name,
            state="running" if alive else pause,
            pid=process.pid if process is not None and alive else None,
            restarts=child.restarts,
            uptime_s=time.monotonic() - child.started_s if alive else 0.0,
            last_exit=child.last_exit if alive or process is None else _ending(process),
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _bury(child: _Child) -> None:
    """A process died: end what is left of its group and decide when to start it again."""
    assert child.process is not None
    _signal_group(child.process, signal.SIGKILL)
    child.last_exit = _ending(child.process)
    now = time.monotonic()
    child.quick_deaths = child.quick_deaths + 1 if now - child.started_s < STEADY_S else 1
    child.start_at_s = now + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (child.quick_deaths - 1))
    child.process = None


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _end(children: Sequence[_Child]) -> None:
    processes = [child.process for child in children if child.process is not None]
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
    for process in processes:
        _signal_group(process, signal.SIGKILL)
        process.wait()
    _await_gone(processes)


def _await_gone(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """A killed process is gone a moment later; grandchildren are not ours to wait for, so their groups are watched."""
    groups = {process.pid for process in processes}
    deadline = time.monotonic() + 2.0
    while groups and any(_lives_in(groups, pid) for pid in psutil.pids()) and time.monotonic() < deadline:
        time.sleep(0.01)


def _lives_in(groups: Set[int], pid: int) -> bool:
    """Zombies do not count: when they are reaped is up to the machine's init."""
    try:
        return os.getpgid(pid) in groups and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """The watcher keeps the group's id taken until it is killed, so a dead leader's id is never somebody else's."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
