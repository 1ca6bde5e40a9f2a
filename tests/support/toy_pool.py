"""Toy worker processes under a supervisor that starts again what dies."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.store.artifacts.store import DirectoryStore
from tests.support.data import ROOT


class ToyPool:
    """`size` workers; `tend` starts the dead ones again. Whatever they wrote is in `folder`."""

    def __init__(self, url: str, folder: Path, mode: str, *, lease_s: float, deadline_s: float, size: int = 2) -> None:
        arguments = [url, str(folder), str(lease_s), str(deadline_s), mode]
        self._command = [sys.executable, "-m", "tests.support.toy_worker", *arguments]
        self._folder = folder
        self._size = size
        self.processes: list[subprocess.Popen[bytes]] = []
        self.statuses: list[int] = []
        self.store = DirectoryStore(folder / "store")

    def __enter__(self) -> Self:
        self.tend()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        if kind is not None:
            sys.stderr.write(self._log.read_text())

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def tend(self) -> None:
        """Replace the workers that ended."""
        for process in list(self.processes):
            status = process.poll()
            if status is not None:
                self.statuses.append(status)
                self.processes.remove(process)
        while len(self.processes) < self._size:
            with self._log.open("ab") as log:
                self.processes.append(subprocess.Popen(self._command, cwd=ROOT, stderr=log))

    def terminate(self) -> list[int]:
        """SIGTERM to all; their exit statuses."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(timeout=30) for process in self.processes]

    def starts(self) -> Counter[int]:
        """How often each shard was started."""
        path = self._folder / "starts"
        return Counter(int(line) for line in path.read_text().split()) if path.exists() else Counter()

    def made(self) -> set[int]:
        """Shards whose artifact is there, checked to be the right one."""
        names = self.store.list("made")
        assert all(self.store.read(f"made/{name}") == str(int(name)).encode() for name in names)
        return {int(name) for name in names}
