"""What can be asked of a machine. Whatever is not there, broken or slow is an `UnansweredError`, never a crash."""

import ctypes.util
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cli.failures import StartError

PROBE_S = 4.0  # a busy machine starts programs slowly, and none of them is missing for that

_CPUINFO = Path("/proc/cpuinfo")


class UnansweredError(Exception):
    """A question has no answer; the text says why, in a line."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder's file system, and whether the folder (or the first one above it that exists) can be written to."""

    free: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    text: str


class Machine:
    """The one that this process runs on. Nothing is cached; every method may be called from a thread of its own."""

    root = Path(__file__).resolve().parents[3]  # of the checkout, or the folder of installed packages
    python = sys.executable
    python_version = platform.python_version()
    system = platform.system()
    platform = platform.platform()

    def output(self, command: Sequence[str], timeout_s: float = PROBE_S) -> str:
        """What a program prints when it succeeds."""
        try:
            done = subprocess.run(  # noqa: S603  (our own commands, no shell)
                command, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise UnansweredError(f"no answer within {timeout_s:.0f} s") from None
        except OSError as error:
            raise UnansweredError(error.strerror or type(error).__name__) from None
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise UnansweredError(last or f"it ended with {done.returncode}")
        return done.stdout.strip()

    def version(self, package: str) -> str | None:
        """The installed version of a distribution, without importing it."""
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def library(self, name: str) -> bool:
        """Whether the loader knows a shared library."""
        return ctypes.util.find_library(name) is not None

    def cores(self) -> int:
        """Cores that this process may use."""
        if sys.platform == "linux":
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def memory(self) -> tuple[int, int]:
        """All memory and what is available of it, in bytes."""
        try:
            import psutil  # noqa: PLC0415  (the doctor comes to environments that lack packages)
        except ImportError as error:
            raise UnansweredError(str(error)) from None
        found = psutil.virtual_memory()
        return found.total, found.available

    def cpu_flags(self) -> frozenset[str] | None:
        """What the processor can do, as Linux on x86 names it; None elsewhere."""
        try:
            lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        return next((frozenset(line.split()) for line in lines if line.startswith("flags")), None)

    def disk(self, folder: Path) -> Disk:
        """The file system that a folder is on, or will be once it is made."""
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        return Disk(shutil.disk_usage(place).free, os.access(place, os.W_OK))

    def get(self, url: str) -> Reply:
        """An HTTP answer, whatever its status."""
        try:
            import httpx  # noqa: PLC0415
        except ImportError as error:
            raise UnansweredError(str(error)) from None
        try:
            answer = httpx.get(url, timeout=PROBE_S, trust_env=False)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise UnansweredError(str(error) or type(error).__name__) from None
        return Reply(answer.status_code, answer.text)

    def redis_server(self) -> Path:
        """A Redis that `inpo up` would start."""
        from services.cli.launcher.redis_server import find_redis_server  # noqa: PLC0415

        try:
            return find_redis_server()
        except StartError as error:
            raise UnansweredError(str(error)) from None

    def redis_version(self, url: str) -> str:
        """The version of the Redis that answers at an address."""
        try:
            from shared.store.queue.protocol import QueueUnavailableError  # noqa: PLC0415
            from shared.store.redis_client import server_version  # noqa: PLC0415
        except ImportError as error:
            raise UnansweredError(str(error)) from None
        try:
            return server_version(url, timeout_s=PROBE_S)
        except QueueUnavailableError as error:
            raise UnansweredError(str(error)) from None
        except ValueError:  # its text may quote a piece of the address, and that a password
            raise UnansweredError("this is no address of a Redis, such as redis://127.0.0.1:6379/0") from None

    def vllm_python(self) -> Path:
        """The Python of vLLM's environment."""
        from services.policy.engines.vllm.serving import ServingError, vllm_python  # noqa: PLC0415

        try:
            return vllm_python(self.root)
        except ServingError as error:
            raise UnansweredError(str(error)) from None
