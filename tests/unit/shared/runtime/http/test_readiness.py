"""Readiness is told in time, however long its parts take, and asked once however many want to know."""

import asyncio
import threading
from collections.abc import Mapping

import pytest

from shared.runtime.http import readiness
from shared.runtime.http.readiness import ReadinessProbe


class Parts:
    """Readiness that answers when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.num_asked = 0

    def __call__(self) -> Mapping[str, str | None]:
        self.num_asked += 1
        assert self.let.wait(30.0)
        return {"redis": "gone"}


def test_a_silent_part_is_itself_the_answer_and_many_who_ask_wait_for_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "LIMIT_S", 0.1)
    parts = Parts()
    probe = ReadinessProbe(parts)

    async def scene() -> None:
        told = await asyncio.gather(*(probe() for _ in range(80)))
        assert [list(answer) for answer in told] == [["readiness"]] * 80
        parts.let.set()
        monkeypatch.setattr(readiness, "LIMIT_S", 30.0)
        assert await probe() == {"redis": "gone"}

    asyncio.run(scene())
    assert parts.num_asked == 1


def test_an_answer_is_kept_for_a_moment_and_then_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()
    parts.let.set()
    probe = ReadinessProbe(parts)

    async def scene() -> None:
        for _ in range(3):
            assert await probe() == {"redis": "gone"}
        assert parts.num_asked == 1
        monkeypatch.setattr(readiness, "KEPT_S", 0.0)
        await probe()
        assert parts.num_asked == 2

    asyncio.run(scene())


def test_what_readiness_raises_reaches_whoever_asked() -> None:
    def broken() -> Mapping[str, str | None]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        asyncio.run(ReadinessProbe(broken)())
