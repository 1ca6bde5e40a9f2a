"""No process of a training group outlives the worker that started it, however that ends.

The worker holds the only write end of a FIFO. Everything that it starts leaves a small process that waits for the end
of that file, and kills. A process and not a thread: a rank that hangs inside a driver may hold the interpreter's lock.
"""

import os
import select
import signal
from pathlib import Path


def make(path: Path) -> int:
    """A new FIFO; the descriptor whose closing, by whatever means, ends everybody who called `follow`."""
    os.mkfifo(path, mode=0o600)
    # Read and write: opening for writing alone would wait for a reader. Children do not inherit it.
    return os.open(path, os.O_RDWR)


def follow(path: Path) -> None:
    """Die by SIGKILL as soon as the FIFO's writer is gone, or now. Call it before anything starts threads."""
    writer_gone = _opened(path)
    if writer_gone is None:
        os.kill(os.getpid(), signal.SIGKILL)
        return
    followed_gone, followed = os.pipe()
    pid = os.getpid()
    if os.fork() == 0:
        os.close(followed)
        _wait_and_kill(pid, writer_gone, followed_gone)
    os.close(writer_gone)
    os.close(followed_gone)
    # `followed` stays open for as long as this process lives.


def _opened(path: Path) -> int | None:
    """The FIFO, None when its writer is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        # `select` tells the end of a writer that was there at the opening, only reading tells that there was none.
        os.read(descriptor, 1)
    except BlockingIOError:
        return descriptor
    return None


def _wait_and_kill(pid: int, writer_gone: int, followed_gone: int) -> None:
    """Never returns. Holds nothing of its parent's open, or whoever reads the parent's output would wait for it."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        keep = sorted((writer_gone, followed_gone))
        os.closerange(0, keep[0])
        os.closerange(keep[0] + 1, keep[1])
        os.closerange(keep[1] + 1, os.sysconf("SC_OPEN_MAX"))
        ready, _, _ = select.select([writer_gone, followed_gone], [], [])
        if followed_gone not in ready:
            os.kill(pid, signal.SIGKILL)
    finally:
        os._exit(0)
