"""An app behind a real server: uvicorn in a thread, on a free port, until the context ends."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from shared.runtime.http.connections import BoundedProtocol
from tests.support.waiting import wait_until


@contextmanager
def served(app: FastAPI, max_connections: int = 2000) -> Generator[str]:
    """The app's address, answering; its connections are bounded as those of services are."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=BoundedProtocol,
        ws="none",
        limit_concurrency=max_connections,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="served", daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, 10.0, "the server to listen")
        (listening,) = server.servers
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10.0)
