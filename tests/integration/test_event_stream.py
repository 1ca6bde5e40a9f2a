# redis-py leaves some parameters of its commands without a type.
# pyright: reportUnknownMemberType=false
"""`/v1/runs/{id}/events` over a real server and a real Redis: who comes back misses nothing and sees nothing twice."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import redis

from services.controller.api import events
from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from shared.contracts.work import Event
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.redis_queue import NAMESPACE, RedisQueue
from tests.support.published import a_stored_run
from tests.support.served import served

MAX_STREAMS = 60
Line = tuple[str | None, str, str]  # id, event, data


class System:
    """A controller behind a server; its run, and events published as services do."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.redis_url = redis_url
        self.store = DirectoryStore(folder / "store")
        self.run = a_stored_run(self.store, folder)
        self.queue = self._connection("api")
        loop = ReconcileLoop(RunRepository(self.store), self.queue)
        settings = ControllerSettings(max_streams=MAX_STREAMS)
        self.app = controller_app(settings, self.store, self.queue, self._connection("events"), loop)

    def publish(self, first: int, last: int) -> None:
        """Events of this run numbered so, each followed by one of another run."""
        for number in range(first, last + 1):
            self.queue.publish(Event(type="item_done", run=self.run, data={"number": number}))
            self.queue.publish(Event(type="item_done", run="another", data={"number": -number}))

    def read(self, url: str, num: int, last_event_id: str | None) -> list[Line]:
        """The next events of the stream, after which the connection is cut."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        found: list[Line] = []
        address = f"{url}/v1/runs/{self.run}/events"
        with httpx.stream("GET", address, headers=headers, timeout=20.0, trust_env=False) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = events_in(response.iter_lines())
            while len(found) < num:
                found.append(next(lines))
        return found

    def _connection(self, role: str) -> RedisQueue:
        return RedisQueue(self.redis_url, consumer=f"test-{role}", lease_s=30.0)


def events_in(lines: Iterator[str]) -> Iterator[Line]:
    """The events of a server-sent stream; comments, which keep the connection open, are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields.get("id"), fields["event"], fields["data"]
            fields = {}


def numbers(lines: list[Line]) -> list[int]:
    return [json.loads(data)["number"] for _, _, data in lines]


@pytest.fixture
def system(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> System:
    """Its streams look for their clients often, so that servers end soon."""
    monkeypatch.setattr(events, "SSE_WAIT_S", 0.2)
    return System(tmp_path, redis_url)


def test_a_client_that_is_cut_off_again_and_again_sees_every_event_once_and_in_order(system: System) -> None:
    """Twelve events read in connections of 1, 2, 3, 1, 2 and 3 events, half of them published while nobody listened."""
    with served(system.app) as url:
        system.publish(1, 6)
        seen, last = system.read(url, 1, "0"), ""
        for num in (2, 3, 1, 2, 3):
            last = seen[-1][0] or ""
            if len(seen) == 6:
                system.publish(7, 12)
            seen += system.read(url, num, last)
    assert numbers(seen) == list(range(1, 13))
    assert len({identity for identity, _, _ in seen}) == 12


def test_a_client_without_an_id_sees_what_happens_from_now_on(system: System) -> None:
    """It is connected before the second event is published: the response's head is only sent when the stream begins."""
    system.publish(1, 1)
    with served(system.app) as url:
        address = f"{url}/v1/runs/{system.run}/events"
        with httpx.stream("GET", address, timeout=20.0, trust_env=False) as response:
            lines = events_in(response.iter_lines())
            system.publish(2, 2)
            assert numbers([next(lines)]) == [2]


def test_an_id_whose_followers_are_no_longer_all_kept_is_answered_by_a_gap_and_then_by_what_is(system: System) -> None:
    """Ten events of each run, of which the stream then keeps the last six: numbers 8, 9 and 10 of this run."""
    with served(system.app) as url:
        system.publish(1, 10)
        first = system.read(url, 1, "0")[0][0]
        with redis.Redis.from_url(system.redis_url) as client:
            client.xtrim(f"{NAMESPACE}:events", maxlen=6, approximate=False)
        seen = system.read(url, 4, first)
        identity, event, data = seen[0]
        assert (identity, event) == (None, "gap")
        assert first is not None
        assert first in data
        assert f"GET /v1/runs/{system.run}" in data
        assert numbers(seen[1:]) == [8, 9, 10]
        assert numbers(system.read(url, 2, seen[1][0])) == [9, 10]


def test_an_id_of_a_stream_that_was_lost_is_a_gap_and_not_a_silence(system: System) -> None:
    """After FLUSHALL the client's id is beyond everything: reading behind it would wait for ever."""
    with served(system.app) as url:
        system.publish(1, 3)
        seen = system.read(url, 2, "9999999999999-7")
        assert [event for _, event, _ in seen] == ["gap", "item_done"]
        assert numbers(seen[1:]) == [1]


def test_sixty_streams_need_no_thread_each_and_one_more_of_the_key_is_told_to_wait(system: System) -> None:
    """Looks of a client that waits for its first event, and a POST, are answered meanwhile; all see the next event."""
    with served(system.app) as url, ExitStack() as stack:
        address = f"{url}/v1/runs/{system.run}/events"
        before = threading.active_count()

        def opened() -> httpx.Response:
            return stack.enter_context(httpx.stream("GET", address, timeout=60.0, trust_env=False))

        streams = [opened() for _ in range(MAX_STREAMS)]
        assert [stream.status_code for stream in streams] == [200] * MAX_STREAMS
        assert threading.active_count() - before < MAX_STREAMS / 4
        refused = opened()
        refused.read()
        assert (refused.status_code, "INPO_MAX_STREAMS" in refused.json()["detail"]) == (429, True)
        assert httpx.post(f"{url}/v1/runs/{system.run}:pause", timeout=20.0, trust_env=False).status_code == 200
        system.publish(1, 1)
        for stream in streams:
            lines = (line for line in events_in(stream.iter_lines()) if "number" in line[2])
            assert numbers([next(lines)]) == [1]


def test_a_stream_that_closes_gives_its_place_back(system: System) -> None:
    with served(system.app) as url:
        for _ in range(2):
            system.publish(1, 1)
            for _ in range(MAX_STREAMS):
                assert system.read(url, 1, "0")


@pytest.mark.parametrize(
    "wrong", ["", "latest", "-1", "1-", "1-2-3", "18446744073709551616-0", "1-99999999999999999999"]
)
def test_an_id_that_is_none_is_the_clients_error(system: System, wrong: str) -> None:
    with served(system.app) as url:
        address = f"{url}/v1/runs/{system.run}/events"
        response = httpx.get(address, headers={"Last-Event-ID": wrong}, timeout=20.0, trust_env=False)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
