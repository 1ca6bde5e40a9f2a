"""A vLLM server over HTTP: every call typed, with a deadline, and with an error that says what to do."""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from services.policy.engine import EngineError, EngineUnavailableError
from services.policy.engines.vllm.answers import Completions, RpcResults, ServedModel, WeightInfo
from shared.contracts.outside import cleaned, strict_json

CONNECT_TIMEOUT_S = 5.0
HEALTH_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 128
SHORT_TIMEOUT_S = 30.0
MAX_DETAIL_CHARS = 500

T = TypeVar("T", bound=BaseModel)


class RejectedError(EngineError):
    """The server is there and answered with an error; trying the same again may well give the same."""


class VllmClient:
    """One vLLM server. Safe for many threads; `close` ends its connections.

    A server that cannot be reached raises `EngineUnavailableError`, and once it has been away for longer than
    `patience_s` a plain `EngineError`. Calls time out after `timeout_s`, short ones sooner.
    """

    def __init__(self, url: str, api_key: str | None, *, timeout_s: float, patience_s: float) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._away_since: float | None = None
        self._lock = threading.Lock()
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = self._connected()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def complete(self, request: Mapping[str, Any]) -> Completions:
        """`POST /v1/completions`."""
        return self._ask(Completions, "POST", "/v1/completions", json=request)

    def weight_version(self) -> str | None:
        """The label that the last `set_weight_version` gave to this server process; a fresh one has another."""
        return self._ask(WeightInfo, "GET", "/weight_info", timeout_s=SHORT_TIMEOUT_S).weight_version

    def set_weight_version(self, label: str) -> None:
        """Label what serves from now on."""
        self._call("POST", "/update_weight_version", json={"new_version": label}, timeout_s=SHORT_TIMEOUT_S)

    def pause(self) -> None:
        """Take no request any more and return when the running ones are finished. May be repeated."""
        self._call("POST", "/pause", params={"mode": "wait"})

    def resume(self) -> None:
        """Take requests again."""
        self._call("POST", "/resume", timeout_s=SHORT_TIMEOUT_S)

    def reset_prefix_cache(self) -> None:
        """Forget everything that old weights computed."""
        self._call("POST", "/reset_prefix_cache", params={"reset_running_requests": "true"}, timeout_s=SHORT_TIMEOUT_S)

    def swap_weights(self, directory: str) -> None:
        """Load a directory's weights into the serving model; a `RejectedError` may leave them half loaded."""
        self._rpc("swap_weights", {"weights_path": directory})

    def served_model(self) -> ServedModel:
        """What the server was started on."""
        results = self._rpc("served_model", {}).results
        return _parsed(ServedModel, results[0], "served_model")

    def sleep(self) -> None:
        """Move the weights out of the accelerator's memory and drop the caches; nothing may be running."""
        self._call("POST", "/sleep", params={"level": "1", "mode": "wait"})

    def wake_up(self) -> None:
        """Undo `sleep`."""
        self._call("POST", "/wake_up")

    def end_server(self) -> None:
        """Make the server's processes end, so that its supervisor starts it afresh; returns when it is gone.

        `EngineError` when it goes on answering as if nothing had happened.
        """
        # It cannot answer this one; whether it has gone is asked below.
        with suppress(EngineError):
            self._rpc("end_server", {}, timeout_s=SHORT_TIMEOUT_S)
        deadline = time.monotonic() + SHORT_TIMEOUT_S
        while self._healthy():
            if time.monotonic() > deadline:
                raise EngineError(f"the vLLM server at {self.url} does not end when told to: restart it by hand")
            time.sleep(0.2)

    def _healthy(self) -> bool:
        try:
            return self._send("GET", "/health", timeout=HEALTH_TIMEOUT_S).is_success
        except httpx.HTTPError:
            return False

    def _rpc(self, method: str, kwargs: Mapping[str, str], timeout_s: float | None = None) -> RpcResults:
        body = {"method": method, "kwargs": dict(kwargs)}
        return self._ask(RpcResults, "POST", "/collective_rpc", json=body, timeout_s=timeout_s)

    def _ask(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        answer = self._call(method, path, **options)
        try:
            content = strict_json(answer.content)
        except ValueError as error:
            raise RejectedError(f"vLLM's answer to {path} is not JSON ({error}): {_shown(answer)!r}") from error
        return _parsed(kind, content, path)

    def _call(self, method: str, path: str, *, timeout_s: float | None = None, **options: Any) -> httpx.Response:
        timeout = httpx.Timeout(timeout_s or self._timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            answer = self._send(method, path, timeout=timeout, **options)
        except httpx.ReadTimeout as error:
            raise EngineError(
                f"vLLM did not answer {path} within {timeout.read:g} s: raise INPO_VLLM_TIMEOUT_S if that is too short"
            ) from error
        except httpx.TransportError as error:
            raise self._away(f"{path}: {error or type(error).__name__}") from error
        if answer.is_success:
            self._away_since = None
            return answer
        raise self._refused(path, answer)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Every call may be repeated, and is once, over a new connection: the server closes those that saw an error."""
        try:
            return self._http.request(method, path, **options)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            with self._connected() as fresh:
                return fresh.request(method, path, **options)

    def _connected(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            headers=self._headers,
            # The server closes connections that were idle for 5 s: ours must be closed first.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=2.0),
            trust_env=False,
        )

    def _refused(self, path: str, answer: httpx.Response) -> EngineError:
        detail = _shown(answer)
        if answer.status_code in (401, 403):
            return RejectedError(f"vLLM at {self.url} refuses the API key: set INPO_VLLM_API_KEY_FILE to the server's")
        if answer.status_code == 404:
            return RejectedError(
                f"vLLM at {self.url} has no {path}: it must run with VLLM_SERVER_DEV_MODE=1 and serve the model as "
                f"`policy`, see `python -m services.policy.engines.vllm.serving --help` ({detail})"
            )
        if answer.status_code >= 500 and not self._healthy():
            return self._away(f"{path} answers {answer.status_code} and its engine is dead")
        return RejectedError(f"vLLM answers {path} with {answer.status_code}: {detail}")

    def _away(self, what: str) -> EngineError:
        """The server is gone: an error to wait for, until it has been gone for too long."""
        now = time.monotonic()
        with self._lock:
            if self._away_since is None:
                self._away_since = now
            away_s = now - self._away_since
        if away_s <= self._patience_s:
            return EngineUnavailableError(f"vLLM at {self.url} is away ({what})")
        return EngineError(
            f"vLLM at {self.url} has not answered for {away_s:.0f} s ({what}): start it, or set INPO_VLLM_URL"
        )


def _shown(answer: httpx.Response) -> str:
    return cleaned(answer.text, MAX_DETAIL_CHARS)


def _parsed(kind: type[T], content: object, what: str) -> T:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its body"
        raise RejectedError(f"vLLM's answer to {what} is not usable: {where}: {first['msg']}") from error
