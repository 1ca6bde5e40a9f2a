"""A machine that has what a test says, and nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.cli.doctor.host import OPTIONAL, REQUIRED
from services.cli.doctor.machine import PROBE_S, Disk, Machine, Reply, UnansweredError
from services.cli.doctor.rows import GIB, Places, Row

PLACES = Places("http://127.0.0.1:8000", Path("state/store"))
EVERY_PACKAGE = {name: "1.0" for name in ("inpo", "torch", *REQUIRED, *OPTIONAL)}


class FakeMachine(Machine):
    """`programs` maps words of a command to what it prints; `redis` is a version, or why there is none."""

    python = "python"
    python_version = "3.11.9"
    system = "Linux"
    platform = "Linux-6.1-x86_64"

    def __init__(
        self,
        *,
        root: Path = Path("nowhere"),
        packages: Mapping[str, str] = EVERY_PACKAGE,
        programs: Mapping[str, str] | None = None,
        replies: Mapping[str, Reply] | None = None,
        redis: str | UnansweredError | None = None,
        server: Path | None = Path("bin/redis-server"),
        numa: bool = True,
        flags: frozenset[str] | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.root = root
        self.asked: list[str] = []
        self._packages = packages
        self._programs = dict(programs or {})
        self._replies = dict(replies or {})
        self._redis = redis
        self._server = server
        self._numa = numa
        self._flags = flags
        self._disk = disk or Disk(free=64 * GIB, writable=True)

    def output(self, command: Sequence[str], timeout_s: float = PROBE_S) -> str:
        """Of the first program whose words are in the command."""
        line = " ".join(command)
        self.asked.append(line)
        for words, said in self._programs.items():
            if words in line:
                return said
        raise UnansweredError("No such file or directory")

    def version(self, package: str) -> str | None:
        """As the test says."""
        return self._packages.get(package)

    def library(self, name: str) -> bool:
        """Libnuma is the only one that is asked for."""
        return self._numa

    def cores(self) -> int:
        """Always two."""
        return 2

    def memory(self) -> tuple[int, int]:
        """Eight GiB, half of it taken."""
        return 8 * GIB, 4 * GIB

    def cpu_flags(self) -> frozenset[str] | None:
        """As the test says."""
        return self._flags

    def disk(self, folder: Path) -> Disk:
        """The same for every folder."""
        return self._disk

    def get(self, url: str) -> Reply:
        """As the test says; nobody listens elsewhere."""
        if url not in self._replies:
            raise UnansweredError("Connection refused")
        return self._replies[url]

    def redis_server(self) -> Path:
        """As the test says."""
        if self._server is None:
            raise UnansweredError("found no Redis: install redis-server")
        return self._server

    def redis_version(self, url: str) -> str:
        """As the test says."""
        self.asked.append(url)
        if isinstance(self._redis, str):
            return self._redis
        raise self._redis or UnansweredError("Connection refused")

    def vllm_python(self) -> Path:
        """There is one where the fake has a program of this name."""
        if "vllm/python" not in self._programs:
            raise UnansweredError(".venv-vllm/bin/python does not exist: run `make vllm`")
        return Path("vllm/python")


def row(rows: Sequence[Row], name: str) -> Row:
    """The only row of this name."""
    [found] = [row for row in rows if row.name == name]
    return found
