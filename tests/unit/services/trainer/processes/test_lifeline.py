"""Whoever follows a lifeline ends with its writer, and leaves nothing behind when it ends by itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from services.trainer.processes import lifeline
from tests.support.data import ROOT
from tests.support.waiting import wait_until

# Busy, and deaf to everything but SIGKILL.
FOLLOWER = """
import signal, sys
from pathlib import Path
from services.trainer.processes import lifeline
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
lifeline.follow(Path(sys.argv[1]))
print("following", flush=True)
if len(sys.argv) > 2:
    sys.exit(3)
while True:
    pass
"""


@contextmanager
def follower(path: Path, *more: str) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", FOLLOWER, str(path), *more]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_busy_follower_is_killed_when_the_writer_closes(tmp_path: Path) -> None:
    writer = lifeline.make(tmp_path / "lifeline")
    with follower(tmp_path / "lifeline") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "following\n"
        assert process.poll() is None
        os.close(writer)
        assert process.wait(timeout=30) == -signal.SIGKILL


def test_a_follower_that_comes_too_late_is_killed_at_once(tmp_path: Path) -> None:
    """The writer is gone before the follower has started, with its folder or without."""
    os.close(lifeline.make(tmp_path / "lifeline"))
    for path in (tmp_path / "lifeline", tmp_path / "gone"):
        with follower(path) as process:
            assert process.wait(timeout=30) == -signal.SIGKILL


def test_a_follower_that_ends_by_itself_leaves_no_watcher(tmp_path: Path) -> None:
    """Its output ends with it: nobody else holds that open. The watcher, an orphan by then, is gone as well."""
    writer = lifeline.make(tmp_path / "lifeline")
    with follower(tmp_path / "lifeline", "end") as process:
        assert process.stdout is not None
        assert process.stdout.read() == "following\n"
        assert process.wait(timeout=30) == 3
    wait_until(lambda: not _readers(tmp_path / "lifeline"), 30.0, "the end of the watcher")
    os.close(writer)


def _readers(fifo: Path) -> list[int]:
    """Other processes that hold the FIFO open."""
    links = (link for link in Path("/proc").glob("[0-9]*/fd/*") if _target(link) == str(fifo))
    return [pid for link in links if (pid := int(link.parent.parent.name)) != os.getpid()]


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
