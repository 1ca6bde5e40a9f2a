"""`python -m tests.support.stub_launcher STATE_DIR`: a launcher of stub services, to be killed by tests."""

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from services.cli.launcher.up import SERVICES, UpOptions, running_system


def stub_options(orphan: Path | None = None) -> UpOptions:
    """Stub services for all four; with `orphan` the trainer has a child that ignores SIGTERM."""
    stub = (sys.executable, "-m", "tests.support.stub_service")
    commands: dict[str, Sequence[str]] = {name: stub for name in SERVICES}
    if orphan is not None:
        commands["trainer"] = (*stub, "orphan", str(orphan))
    return UpOptions(commands=commands, ready_timeout_s=60.0)


def main() -> None:
    """Start, print the processes as JSON, wait to be ended."""
    state = Path(sys.argv[1])
    with running_system(state, stub_options(orphan=state / "orphan.pid")) as system:
        print(json.dumps(system.processes), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
