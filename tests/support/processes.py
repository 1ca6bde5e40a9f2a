"""The process tree as /proc shows it."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`, in the order of their ids."""
    return sorted(int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _parent(stat) == pid)


def alive(pid: int) -> bool:
    """Whether the process exists and has not ended: one that nobody has waited for yet has ended."""
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return fields is not None and fields[0] not in "ZX"


def command(pid: int) -> str:
    """The command line, separated by blanks; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def send_signal(pid: int | None, number: signal.Signals) -> None:
    """To a process that may have ended already, or was not there."""
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _parent(stat: Path) -> int | None:
    fields = _fields(stat)
    return None if fields is None else int(fields[1])


def _fields(stat: Path) -> list[str] | None:
    """State, parent and so on: what follows the command's name, which may hold blanks."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
