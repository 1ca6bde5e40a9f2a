"""What routes may know of the request beyond its path and body."""

from typing import Annotated

from fastapi import Depends, Header, Request

from shared.runtime.http.access import Grant
from shared.runtime.http.idempotency import HEADER, MAX_KEY_CHARS
from shared.store.artifacts.requests import RequestIdentity


def _caller(request: Request) -> str:
    grant: Grant = request.state.grant
    return grant.name


def _identity(
    request: Request,
    _: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=MAX_KEY_CHARS,
            pattern=r"^[\x20-\x7e]+$",
            description="Any text of your own. The same key and body are worked on once and answered the same way, "
            "for at least 24 hours: a request that got no answer, or a 5xx, can be sent again safely.",
            examples=["7f9c2ba4-e88f-4d2a-9c6b-3f7a1d0f6a2e"],
        ),
    ] = None,
) -> RequestIdentity | None:
    return getattr(request.state, "request", None)


Caller = Annotated[str, Depends(_caller)]
"""Whose key it was: where the key stands, never what it is. For records of who did what."""

Identity = Annotated[RequestIdentity | None, Depends(_identity)]
"""The same for all repetitions of a request; None when it came without an Idempotency-Key."""
