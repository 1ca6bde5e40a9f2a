"""The ledger of requests: one works, the others learn the answer; who dies is replaced; nothing is for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.store.artifacts.requests import (
    KEPT_S,
    TAKEOVER_S,
    DifferentRequestError,
    InHand,
    RequestInFlightError,
    RequestLedger,
    StoredAnswer,
)
from shared.store.artifacts.store import DirectoryStore


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def an_answer(body: str = "made") -> StoredAnswer:
    return StoredAnswer(status=201, headers=[("content-type", "text/plain")], body=body)


def ask(ledger: RequestLedger, key: str = "k", fingerprint: str = "f", body: str | None = "made") -> str:
    """Work on the request, or learn its answer; with `body` None the work gives up without one."""
    with ledger.open("POST /things", key, fingerprint) as found:
        if isinstance(found, StoredAnswer):
            return f"again {found.body}"
        if body is not None:
            found.settle(an_answer(body))
        return found.identity.digest


def test_the_first_works_and_all_others_get_its_answer_also_from_another_process(
    store: DirectoryStore, clock: Clock
) -> None:
    first, replica = RequestLedger(store, clock=clock), RequestLedger(store, clock=clock)
    ask(first)
    assert ask(first) == ask(replica) == "again made"
    with replica.open("POST /others", "k", "f") as found:
        assert isinstance(found, InHand)


def test_another_body_under_the_same_key_is_refused(store: DirectoryStore, clock: Clock) -> None:
    ledger = RequestLedger(store, clock=clock)
    ask(ledger)
    with pytest.raises(DifferentRequestError):
        ask(ledger, fingerprint="other")


def test_while_somebody_works_on_it_everybody_else_is_told_so(store: DirectoryStore, clock: Clock) -> None:
    first, replica = RequestLedger(store, clock=clock), RequestLedger(store, clock=clock)
    with first.open("POST /things", "k", "f") as found:
        assert isinstance(found, InHand)
        for ledger in (first, replica):
            with pytest.raises(RequestInFlightError):
                ask(ledger)
        found.settle(an_answer())
    assert ask(replica) == "again made"


def test_who_gives_up_without_an_answer_makes_room_at_once_under_the_same_identity(
    store: DirectoryStore, clock: Clock
) -> None:
    first, replica = RequestLedger(store, clock=clock), RequestLedger(store, clock=clock)
    identity = ask(first, body=None)
    clock.now_s += 1.0
    assert ask(replica, body=None) == ask(first) == identity
    assert ask(replica) == "again made"


def test_the_claim_of_a_process_that_died_is_taken_over_after_a_while(store: DirectoryStore, clock: Clock) -> None:
    """A ledger that is left in the middle of its work, as by kill -9, and whose replacement waits for 60 s."""
    dead = RequestLedger(store, clock=clock).open("POST /things", "k", "f")
    found = dead.__enter__()
    assert isinstance(found, InHand)
    replacement = RequestLedger(store, clock=clock)
    clock.now_s += TAKEOVER_S - 0.1
    with pytest.raises(RequestInFlightError):
        ask(replacement)
    clock.now_s += 0.1
    assert ask(replacement) == found.identity.digest
    assert found.settle(an_answer("late")).body == "made"


def test_of_many_at_the_same_moment_exactly_one_works(store: DirectoryStore, clock: Clock) -> None:
    """Four ledgers, as of four processes, with eight threads: one answer, and nobody works a second time."""
    ledgers = [RequestLedger(store, clock=clock) for _ in range(4)]
    worked: list[int] = []
    start = threading.Barrier(8, timeout=10)

    def call(number: int) -> str:
        start.wait()
        try:
            with ledgers[number % 4].open("POST /things", "k", "f") as found:
                if isinstance(found, InHand):
                    worked.append(number)
                    return found.settle(an_answer(str(number))).body
                return found.body
        except RequestInFlightError:
            return "in flight"

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(call, range(8)))
    assert len(worked) == 1
    assert answers <= {str(worked[0]), "in flight"}


def test_a_clock_that_jumps_ahead_forgets_no_answer_within_a_day(store: DirectoryStore, clock: Clock) -> None:
    """A hundred hours ahead, for ten hours: by this process's own count the answer is ten hours old."""
    runs = Clock()
    ledger = RequestLedger(store, clock=clock, monotonic=runs)
    ask(ledger)
    clock.now_s += 100 * 3600.0
    for _ in range(10):
        runs.now_s += 3600.0
        clock.now_s += 3600.0
        assert ask(ledger) == "again made"
    clock.now_s -= 100 * 3600.0
    assert ask(ledger) == ask(RequestLedger(store, clock=clock, monotonic=runs)) == "again made"


def test_a_claim_from_a_clock_that_was_ahead_blocks_for_a_minute_and_not_for_hours(
    store: DirectoryStore, clock: Clock
) -> None:
    """Its holder died; by its date it would be held for ten hours more."""
    runs = Clock()
    clock.now_s += 36_000.0
    dead = RequestLedger(store, clock=clock, monotonic=runs).open("POST /things", "k", "f")
    assert isinstance(dead.__enter__(), InHand)
    clock.now_s -= 36_000.0
    replacement = RequestLedger(store, clock=clock, monotonic=runs)
    with pytest.raises(RequestInFlightError):
        ask(replacement)
    runs.now_s += TAKEOVER_S
    assert len(ask(replacement)) == 64


def test_answers_are_kept_for_a_day_and_forgotten_after_two(store: DirectoryStore, clock: Clock) -> None:
    ledger = RequestLedger(store, clock=clock, monotonic=clock)
    ask(ledger)
    clock.now_s += 24 * 3600.0
    assert ask(ledger) == "again made"
    clock.now_s += KEPT_S - 24 * 3600.0 + 1.0
    ask(ledger, key="another")
    assert len(store.list("idempotency")) == 1
    assert not list(store.root.glob(".removed-*"))
    assert not ask(ledger).startswith("again")
