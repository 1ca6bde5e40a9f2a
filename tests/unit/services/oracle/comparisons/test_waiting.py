"""Of all who wait for a judge's comparisons one looks at a time, and nobody holds a thread meanwhile."""

import asyncio
import threading
from typing import cast

import pytest

from services.oracle.comparisons import waiting
from services.oracle.comparisons.board import ComparisonBoard
from services.oracle.comparisons.waiting import WaitingRoom
from shared.contracts.rest.judging import LeasedComparison, LeaseRequest
from tests.support.waiting import wait_until

COMPARISON = LeasedComparison(
    id="5f" * 32,
    judge="anna",
    judge_revision="1",
    prompt=[],
    responses=("a", "b"),
    lease="1",
    expires_at_s=0.0,
)


class CountedBoard:
    """Gives out as many comparisons as it has; knows how often it was looked at, and by how many at once."""

    def __init__(self) -> None:
        self.open = 0
        self.num_looks = 0
        self.looking = 0
        self.most_looking = 0
        self._lock = threading.Lock()

    def lease(self, request: LeaseRequest) -> list[LeasedComparison]:
        with self._lock:
            self.num_looks += 1
            self.looking += 1
            self.most_looking = max(self.most_looking, self.looking)
            found = [COMPARISON] if self.open and request.judge == "anna" else []
            self.open -= len(found)
        with self._lock:
            self.looking -= 1
        return found


async def never_gone() -> bool:
    return False


def asking(wait_s: float, judge: str = "anna") -> LeaseRequest:
    return LeaseRequest(judge=judge, wait_s=wait_s)


def test_a_hundred_who_wait_look_in_turn_and_each_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All look once when they come; while nothing is there only the first of the line goes on looking."""
    monkeypatch.setattr(waiting, "LOOK_S", 0.01)
    board = CountedBoard()
    room = WaitingRoom(cast(ComparisonBoard, board))

    async def scene() -> None:
        waiters = [asyncio.create_task(room.lease(asking(30.0), never_gone)) for _ in range(100)]
        await asyncio.to_thread(wait_until, lambda: board.num_looks >= 110, 30.0, "looks of the line's first")
        assert await room.lease(asking(0.0, "bob"), never_gone) == [], "another judge is not kept waiting"
        board.open = 100
        assert await asyncio.gather(*waiters) == [[COMPARISON]] * 100

    asyncio.run(scene())
    assert board.most_looking <= waiting.NUM_THREADS


def test_who_waits_in_vain_is_answered_in_time_wherever_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 0.01)
    room = WaitingRoom(cast(ComparisonBoard, CountedBoard()))

    async def scene() -> None:
        first = asyncio.create_task(room.lease(asking(30.0), never_gone))
        assert await room.lease(asking(0.05), never_gone) == []
        assert not first.done()
        first.cancel()

    asyncio.run(scene())


def test_who_has_left_looks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 0.0)
    board = CountedBoard()
    room = WaitingRoom(cast(ComparisonBoard, board))

    async def gone() -> bool:
        board.open = 1
        return True

    assert asyncio.run(room.lease(asking(30.0), gone)) == []
    assert board.open == 1, "it is there for somebody else"
