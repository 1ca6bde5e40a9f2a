"""HTTP services: one app factory, one way to listen.

```
app = create_app("oracle", settings, ready=lambda: {"redis": None})    # None: this part is fine
serve(app, settings)                                                   # blocks until SIGTERM or SIGINT
```
"""

from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field, SecretStr
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from shared.contracts.rest.problems import FieldError
from shared.runtime.http import docs_page
from shared.runtime.http.access import Keyring, read_keys, single_key
from shared.runtime.http.boundary import Boundary, is_loopback
from shared.runtime.http.connections import BACKLOG, IDLE_S, BoundedProtocol, bounded
from shared.runtime.http.idempotency import Idempotency
from shared.runtime.http.lanes import Lane, Lanes
from shared.runtime.http.openapi import describe, examples, refusals
from shared.runtime.http.problems import ProblemError, add_handlers
from shared.runtime.http.readiness import Readiness, ReadinessProbe
from shared.runtime.log_limits import tell_of_libraries
from shared.runtime.settings import Settings
from shared.store.artifacts.requests import RequestLedger

__all__ = [
    "HttpSettings",
    "InsecureListenError",
    "Lane",
    "ProblemError",
    "Readiness",
    "check_exposure",
    "create_app",
    "serve",
]

_GRACE_S = 5


class InsecureListenError(ValueError):
    """The service would listen beyond this machine without a key; it does not start."""


class HttpSettings(Settings):
    """What a service with an HTTP API reads beside its own settings. Subclasses set their default `port`."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; beyond loopback a key is required.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    api_key_file: Path | None = Field(
        default=None, description="File of bearer keys: a line `KEY`, or `scope[,scope] KEY` (read, operate, judge)."
    )
    api_key: SecretStr | None = Field(
        default=None, description="A bearer key with all scopes; prefer `api_key_file`, which goes before it."
    )
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024, description="Larger request bodies are refused (413).")
    max_connections: int = Field(
        default=2000,
        ge=1,
        description="Connections open at once; one more replaces the one that has been idle for longest, or is refused "
        "(503) while all are being answered.",
    )
    max_streams: int = Field(
        default=128,
        ge=1,
        description="Event streams, and likewise leases that wait, which one key may hold open at once (429).",
    )

    def keyring(self) -> Keyring | None:
        """The keys that clients may send; None when none are set. ValueError names what is wrong, never a key."""
        if self.api_key_file is not None:
            return Keyring(read_keys(self.api_key_file), "key file")
        if self.api_key is not None:
            return Keyring([single_key(self.api_key.get_secret_value(), "INPO_API_KEY")], "INPO_API_KEY")
        return None


def create_app(
    title: str,
    settings: HttpSettings,
    *,
    ready: Readiness,
    ledger: RequestLedger | None = None,
    lanes: Sequence[Lane] = (),
) -> FastAPI:
    """A service's app: problem+json for every error, keys with scopes, strict bodies, health, readiness and metrics.

    `ready` maps the parts that the service needs to what is wrong with them now, None where nothing is; see
    `ReadinessProbe`. With a `ledger`, every POST may carry an Idempotency-Key. `lanes` are for routes that may take
    long. `/healthz` and `/readyz` are open and wait for no thread of others; all else needs a key when there are keys.
    """
    keys = settings.keyring()
    layers = [Middleware(Boundary, keys=keys, max_body_bytes=settings.max_body_bytes)]
    if lanes:
        layers.append(Middleware(Lanes, lanes=lanes))
    if ledger is not None:
        layers.append(Middleware(Idempotency, ledger=ledger))
    app = FastAPI(
        title=title,
        version=installed_version("inpo"),
        middleware=layers,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    describe(app, with_keys=keys is not None, with_ledger=ledger is not None)
    add_handlers(app)
    _add_operations(app, ready)
    return app


def serve(app: FastAPI, settings: HttpSettings) -> None:
    """Listen until SIGTERM or SIGINT, then finish what is being answered; `InsecureListenError` as promised there.

    Must run in the main thread. The signal is raised again after the last answer, for whoever handled it before.
    """
    check_exposure(settings)
    tell_of_libraries("uvicorn.error", "asyncio")
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        limit_concurrency=bounded(settings.max_connections),
        timeout_keep_alive=IDLE_S,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


def check_exposure(settings: HttpSettings) -> None:
    """`InsecureListenError` when the address is reachable from other machines and no key is set."""
    if is_loopback(settings.host) or settings.keyring() is not None:
        return
    raise InsecureListenError(
        f"refusing to listen on {settings.host} without a key: set INPO_API_KEY_FILE to a file with a bearer key, "
        "or INPO_HOST to 127.0.0.1"
    )


def _add_operations(app: FastAPI, ready: Readiness) -> None:
    probe = ReadinessProbe(ready)

    async def get_health() -> dict[str, str]:
        """The process answers; nothing else is claimed."""
        return {"status": "ok"}

    async def get_readiness() -> dict[str, str]:
        """200 when every part works, 503 with the parts that do not."""
        failing = {part: reason for part, reason in (await probe()).items() if reason is not None}
        if failing:
            detail = "; ".join(f"{part}: {reason}" for part, reason in failing.items())
            errors = [FieldError(field=part, message=reason) for part, reason in failing.items()]
            raise ProblemError(503, "Not ready", detail, retryable=True, errors=errors)
        return {"status": "ready"}

    def get_metrics() -> Response:
        """Prometheus text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    def get_docs() -> Response:
        """The description of this API as a page."""
        return HTMLResponse(docs_page.render(app.openapi()))

    app.add_api_route("/healthz", get_health, tags=["operations"], openapi_extra=examples(response={"status": "ok"}))
    app.add_api_route(
        "/readyz",
        get_readiness,
        tags=["operations"],
        responses=refusals({503: "A part that the service needs does not work; `errors` names it."}),
        openapi_extra=examples(response={"status": "ready"}),
    )
    for path, answer in (("/healthz", get_health), ("/readyz", get_readiness)):
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/metrics", get_metrics, tags=["operations"], response_class=PlainTextResponse)
    app.add_api_route("/docs", get_docs, include_in_schema=False)
