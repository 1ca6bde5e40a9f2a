"""A real S3 API for tests: moto as a process of its own, with a bucket."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.cli.launcher.redis_server import free_port
from tests.support.waiting import wait_until

BUCKET = "artifacts"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server, and what a process needs in its environment to use it."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Of whoever uses it, as with any other S3."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def url(self, prefix: str) -> str:
        """Of a store of one's own."""
        return f"s3://{BUCKET}/{prefix}"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for the session."""
    log = Path(tmp_path_factory.mktemp("s3") / "moto.log")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: _made(endpoint), 60, f"moto on port {port}")
            yield S3Server(endpoint)
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with this process's environment set for it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


def _made(endpoint: str) -> bool:
    """Whether the bucket is there now."""
    try:
        return httpx.put(f"{endpoint}/{BUCKET}", trust_env=False).status_code in (200, 409)
    except httpx.TransportError:
        return False
