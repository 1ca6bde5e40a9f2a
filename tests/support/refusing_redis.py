"""A proxy in front of a real Redis that answers with a refusal instead, for as long as it is told to."""

import socket
import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedIOBase

REFUSALS = {
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "NOGROUP": "NOGROUP No such key 'stream' or consumer group 'workers'",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOAUTH": "NOAUTH Authentication required.",
    "WRONGPASS": "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM": "NOPERM User default has no permissions to run the 'evalsha' command",
    "max number of clients": "ERR max number of clients reached",
    "unknown command": "ERR unknown command 'XAUTOCLAIM', with args beginning with: ",
}
"""What Redis answers, by a word that people would search for."""


class RefusingRedis(socketserver.ThreadingTCPServer):
    """Listens on `url`. What comes is handed on, command by command, unless `refusal` is set."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.refusal: str | None = None
        self.redis_port = port
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/0"

    @contextmanager
    def refusing(self, refusal: str) -> Generator[None]:
        """While the block runs, every command is answered with this."""
        self.refusal = refusal
        try:
            yield
        finally:
            self.refusal = None


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        proxy = self.server
        assert isinstance(proxy, RefusingRedis)
        with socket.create_connection(("127.0.0.1", proxy.redis_port)) as behind:
            threading.Thread(target=self._answer, args=(behind,), daemon=True).start()
            try:
                while command := _command(self.rfile):
                    if proxy.refusal is None:
                        behind.sendall(command)
                    else:
                        self.wfile.write(f"-{proxy.refusal}\r\n".encode())
            except OSError:
                return

    def _answer(self, behind: socket.socket) -> None:
        try:
            while data := behind.recv(1 << 16):
                self.wfile.write(data)
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _command(stream: BufferedIOBase) -> bytes:
    """One command as it came; nothing when the connection has ended."""
    head = stream.readline()
    parts = [head]
    for _ in range(int(head[1:] or 0)):
        size = stream.readline()
        parts += [size, stream.read(int(size[1:] or 0) + 2)]
    return b"".join(parts)


@contextmanager
def refusing_redis(port: int) -> Generator[RefusingRedis]:
    """A proxy before the Redis of this port."""
    with RefusingRedis(port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
