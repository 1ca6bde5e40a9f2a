# redis-py leaves some parameters of its commands without a type.
# pyright: reportUnknownMemberType=false
"""A real Redis server for tests, which may be killed and started again on the same port."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from services.cli.launcher.redis_server import answers_ping, find_redis_server, free_port, redis_arguments
from tests.support.waiting import wait_until


class RedisServer:
    """A server whose append-only file survives `kill`."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers; nothing when it runs already."""
        if self._process is not None and self._process.poll() is None:
            return
        command = redis_arguments(find_redis_server(), self._directory, self.port)
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        wait_until(lambda: answers_ping(self.port), 20, f"Redis on port {self.port}")

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def client(self) -> redis.Redis:
        """A plain client, for what the queue does not offer."""
        return redis.Redis.from_url(self.url, decode_responses=True, protocol=2)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the session."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of an empty Redis that runs."""
    redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url
