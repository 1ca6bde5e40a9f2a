"""Slow requests wait for each other, and nobody waits for them."""

import asyncio
from collections.abc import Awaitable

import pytest
from starlette.types import Message, Receive, Scope, Send

from shared.runtime.http import lanes
from shared.runtime.http.lanes import Lane, Lanes, Places
from shared.runtime.http.problems import ProblemError


class SlowApp:
    """Answers when it is let; knows how many it has at work."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.at_work += 1
        if scope["path"] == "/slow":
            await self.let.wait()
        self.at_work -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})


def ask(app: Lanes, path: str) -> Awaitable[int]:
    statuses: list[int] = []

    async def receive() -> Message:
        raise AssertionError("nothing is read here")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def asked() -> int:
        await app({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
        return statuses[0]

    return asyncio.ensure_future(asked())


def test_a_lane_has_no_more_at_work_than_it_may_and_others_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at work, three waiting as the limit allows, a sixth told to come back."""
    monkeypatch.setattr(lanes, "MAX_WAITING", 3)

    async def scene() -> None:
        slow = SlowApp()
        app = Lanes(slow, lanes=[Lane("POST /slow", 2)])
        asked = [ask(app, "/slow") for _ in range(6)]
        assert await asked[5] == 503
        assert slow.at_work == 2
        assert await ask(app, "/quick") == 200
        slow.let.set()
        assert await asyncio.gather(*asked[:5]) == [200] * 5
        assert await ask(app, "/slow") == 200

    asyncio.run(scene())


def test_a_key_has_its_places_and_leaves_the_others_theirs() -> None:
    places = Places(2, "streams")
    with places.taken("a"), places.taken("a"):
        with pytest.raises(ProblemError) as refused, places.taken("a"):
            pass
        assert (refused.value.problem.status, refused.value.problem.retryable) == (429, True)
        assert "INPO_MAX_STREAMS" in refused.value.problem.detail
        with places.taken("b"):
            pass
    with places.taken("a"):
        pass
