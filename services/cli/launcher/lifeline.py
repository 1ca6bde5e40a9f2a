"""Starts one service so that its whole process group ends when the launcher does, however the launcher ends.

Run as a script, `python -I -S lifeline.py PIPE COMMAND…`, in a new session; standard library only, because it runs
before every service. It leaves a watcher in the group, then becomes the command, so that the process id is the
service's own. The launcher holds the only write end of the pipe: when that is closed, by exit or by kill -9, the
watcher ends the group. Unlike PR_SET_PDEATHSIG this reaches grandchildren, does not depend on the thread that started
the service, has no gap between fork and exec, and works on macOS.

Every other descriptor that was passed on stays open in the watcher only: the launcher's lock is held until the last
group is gone, so a new launcher never meets an old one's services.
"""

import os
import signal
import sys
import time

GRACE_S = 5.0


def main() -> None:
    """Leave the watcher behind and become the command."""
    lifeline, command = int(sys.argv[1]), sys.argv[2:]
    group = os.getpid()
    child = os.fork()
    if child == 0:
        # Twice, so that the service has no child that it does not know of.
        if os.fork() == 0:
            _watch(lifeline, group)
        os._exit(0)
    os.waitpid(child, 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    try:
        os.execvp(command[0], command)  # noqa: S606  (the launcher's own command, and no shell is wanted)
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


def _watch(lifeline: int, group: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(lifeline, 1)
    os.killpg(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and _alive(group):
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
