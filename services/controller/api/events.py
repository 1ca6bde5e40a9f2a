"""Live events over HTTP: a client that comes back goes on where it was, or is told that it missed something."""

import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.controller.api.feed import EventFeed, position
from shared.runtime.http.app import ProblemError
from shared.runtime.http.lanes import Places
from shared.runtime.http.openapi import refusals
from shared.runtime.http.requests import Caller
from shared.store.queue.protocol import Queue, QueueUnavailableError

SSE_WAIT_S = 10.0
GAP = "gap"
BEGINNING = "0"

_log = structlog.get_logger(__name__)
_EVENT_ID = re.compile(r"^[0-9]{1,20}(-[0-9]{1,20})?$")
_MAX_PART = 2**64 - 1


def events_router(queue: Queue, known: Callable[..., str], max_streams: int) -> APIRouter:
    """`/v1/runs/{run_id}/events`. `queue` is a connection of its own for long reads; `known` checks the run's id.

    A stream needs no thread; a key may hold `max_streams` open at once.
    """
    router = APIRouter(prefix="/v1/runs", tags=["runs"])
    feed, places = EventFeed(queue), Places(max_streams, "event streams")

    async def place(caller: Caller) -> AsyncIterator[None]:
        with places.taken(caller):
            yield

    @router.get(
        "/{run_id}/events",
        response_class=EventSourceResponse,
        dependencies=[Depends(place)],
        responses=refusals(
            {404: "No run has this id.", 429: "The key holds too many streams open.", 503: "Redis cannot be reached."}
        ),
    )
    async def get_events(
        run_id: Annotated[str, Depends(known)],
        request: Request,
        start: Annotated[tuple[str, str | None], Depends(_start(feed))],
    ) -> AsyncIterator[ServerSentEvent]:
        """Live events of a run, server-sent. A client that sends `Last-Event-ID` goes on behind that event.

        Where events behind it are no longer kept, the first event is `gap`: what happened meanwhile is in
        `GET /v1/runs/{run_id}`, and what is still kept follows. `Last-Event-ID: 0` asks for all that is kept.
        A stream that ends has lost Redis: come back with the last id.
        """
        cursor, missed = start
        if missed is not None:
            detail = f"what followed it is no longer kept in full: GET /v1/runs/{run_id} says how the run stands"
            yield ServerSentEvent(event=GAP, data={"last_event_id": missed, "detail": detail})
        try:
            async with feed.listening() as reading:
                while not (reading.over or await request.is_disconnected()):
                    cursor, found = await feed.behind(reading, cursor)
                    for identity, event in found:
                        if event.run == run_id:
                            yield ServerSentEvent(id=identity, event=event.type, data=event.data)
                    if not found:
                        await reading.news(SSE_WAIT_S)
        except QueueUnavailableError as error:
            _log.warning("events_interrupted", error=str(error), next="clients come back with Last-Event-ID")

    return router


def _start(feed: EventFeed) -> Callable[[str | None], Coroutine[Any, Any, tuple[str, str | None]]]:
    async def start(
        last_event_id: Annotated[
            str | None, Header(description="Id of the last event that the client saw.", examples=["1732190000000-0"])
        ] = None,
    ) -> tuple[str, str | None]:
        """Where to read on, and the client's last id where events behind it are lost.

        Found before the stream begins, because afterwards there is no status to send.
        """
        return await feed.ask(lambda queue: _found(queue, last_event_id))

    return start


def _found(queue: Queue, last_event_id: str | None) -> tuple[str, str | None]:
    if last_event_id is None:
        return queue.last_event(), None
    wanted = _parsed(last_event_id)
    if wanted == (0, 0):
        return BEGINNING, None
    try:
        kept = queue.events(_before(last_event_id, wanted), wait_s=0.0)
    except ValueError:
        raise _not_an_id(last_event_id) from None
    if kept and _parsed(kept[0][0]) == wanted:
        return last_event_id, None
    # An id beyond the newest is of a stream that is gone: reading on behind it would find nothing for ever.
    lost = wanted > _parsed(queue.last_event())
    return (BEGINNING if lost else last_event_id), last_event_id


def _parsed(identity: str) -> tuple[int, int]:
    place = position(identity) if _EVENT_ID.match(identity) else None
    if place is None or max(place) > _MAX_PART:
        raise _not_an_id(identity)
    return place


def _not_an_id(identity: str) -> ProblemError:
    return ProblemError(400, "Bad Last-Event-ID", f"{identity!r} is not the id of an event of this stream")


def _before(identity: str, parsed: tuple[int, int]) -> str:
    """The id just before, in the same form."""
    first, second = parsed
    if "-" not in identity:
        return str(first - 1)
    return f"{first}-{second - 1}" if second else f"{first - 1}-{_MAX_PART}"
