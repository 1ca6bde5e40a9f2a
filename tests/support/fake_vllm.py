"""A vLLM server without a model, over real HTTP, with handles for tests: what fails, what is dead, what was asked.

The log-probs of a canary sequence are those of the canary of the directory that is loaded (`old_head`: of its parent),
of any other token -1; a response is its seed's tokens.
"""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared.store.weights.manifests import read_canary, tensor_headers

Answer = tuple[int, Any]
DROPPED: Answer = (0, None)
DEAD: Answer = (500, {"error": {"message": "EngineCore encountered an issue"}})


@dataclass
class FakeVllm:
    """State of the server. `faults` maps a path, or an RPC's method, to answers that are given first, in turn."""

    model: Path
    dtype: str = "float32"
    key: str | None = None
    label: str = "default"
    paused: bool = False
    healthy: bool = True
    old_head: bool = False
    ends_when_told: bool = True
    sleeping: bool = False
    loaded: Path | None = None
    faults: dict[str, list[Answer | None]] = field(default_factory=dict[str, list[Answer | None]])
    asked: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    during: Callable[[str], None] = lambda path: None
    url: str = ""

    def fail(self, path: str, *answers: Answer | None) -> None:
        """The next answers of a path or RPC method; None is the usual one."""
        self.faults[path] = list(answers)

    def restart(self) -> None:
        """As after a crash: other weights, another label, nothing paused."""
        self.label, self.paused, self.loaded, self.healthy = "default", False, None, True

    def calls(self) -> list[str]:
        """Paths and RPC methods in the order in which they were asked."""
        return [path for path, _ in self.asked]

    def answer(self, path: str, body: Any) -> Answer:
        """What the server says."""
        name = body["method"] if path == "/collective_rpc" else path
        self.asked.append((name, body))
        self.during(name)
        found = self.faults[name].pop(0) if self.faults.get(name) else None
        if found is not None:
            return found
        if not self.healthy:
            return (503, None) if path == "/health" else DEAD
        usual: dict[str, Callable[[Any], Answer]] = {
            "/weight_info": lambda _: (200, {"weight_version": self.label}),
            "/update_weight_version": self._label,
            "/pause": lambda _: self._set("paused", True),
            "/resume": lambda _: self._set("paused", False),
            "/sleep": lambda _: self._set("sleeping", True),
            "/wake_up": lambda _: self._set("sleeping", False),
            "/reset_prefix_cache": lambda _: (200, None),
            "/health": lambda _: (200, None),
            "/v1/completions": self._complete,
            "swap_weights": self._swap,
            "served_model": self._served,
            "end_server": self._end,
        }
        return usual[name](body) if name in usual else (404, {"detail": "Not Found"})

    def _set(self, name: str, value: bool) -> Answer:
        setattr(self, name, value)
        return (200, {"status": name})

    def _label(self, body: Any) -> Answer:
        self.label = body["new_version"]
        return (200, {"success": True})

    def _swap(self, body: Any) -> Answer:
        assert self.paused, "weights must not be exchanged under running requests"
        self.loaded = Path(body["kwargs"]["weights_path"])
        return (200, {"results": [{"loaded": str(self.loaded)}]})

    def _served(self, body: Any) -> Answer:
        headers = tensor_headers(self.model)
        tensors = {name: {"dtype": header.dtype, "shape": list(header.shape)} for name, header in headers.items()}
        served = {"directory": str(self.model), "dtype": self.dtype, "max_model_len": 256, "tied": True}
        return (200, {"results": [{**served, "tensors": tensors}]})

    def _end(self, body: Any) -> Answer:
        self.healthy = not self.ends_when_told
        return DEAD

    def _complete(self, body: Any) -> Answer:
        assert not self.paused, "a paused server would never answer"
        if body.get("prompt_logprobs") is not None:
            return (200, {"choices": [{"index": 0, "finish_reason": "length", "prompt_logprobs": self._scores(body)}]})
        choices = [
            {
                "index": index,
                "finish_reason": "length",
                "token_ids": [(body["seed"] + index) % 250] * body["max_tokens"],
                "logprobs": {"token_logprobs": [-1.0] * body["max_tokens"]},
            }
            for index in range(body["n"])
        ]
        # The server does not promise their order.
        return (200, {"choices": choices[::-1]})

    def _scores(self, body: Any) -> list[Any]:
        prompt: list[int] = body["prompt"]
        values = [-1.0] * (len(prompt) - 1)
        if self.loaded is not None:
            canary = read_canary(self.loaded)
            rows = canary.parent_log_probs if self.old_head else canary.log_probs
            values = next((row for ids, row in zip(canary.sequences, rows, strict=True) if ids == prompt), values)
        return [None, *({str(token): {"logprob": v}} for token, v in zip(prompt[1:], values, strict=True))]


@contextmanager
def fake_vllm(model: Path) -> Generator[FakeVllm]:
    """A server on a free port of this machine."""
    fake = FakeVllm(model)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._respond(None)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self._respond(json.loads(self.rfile.read(length)) if length else None)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def _respond(self, body: Any) -> None:
            status, content = fake.answer(urlsplit(self.path).path, body)
            if fake.key is not None and self.headers.get("Authorization") != f"Bearer {fake.key}":
                status, content = 401, {"error": "Unauthorized"}
            if status == 0:
                self.close_connection = True
                return
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
