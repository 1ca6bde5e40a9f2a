"""The board of open comparisons: what pull judges may claim, as oracle and judges see it.

Coordination only. A comparison's text and its verdict are artifacts; the board holds ids. Losing it loses nothing:
whoever waits for a verdict puts its id up again, and a verdict counts with or without the board.

    put ──► open ──lease──► leased ──settle──► gone (answered)
              ▲               ├─ lease runs out ─► open
              │               └─ fail ──► failed, shown to whoever puts it up ──forget──► gone
              └───── gone when nobody has put it up for `WANTED_S`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

WANTED_S = 600.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A comparison given to a judge until `expires_at_s`, Unix seconds of the board's clock."""

    id: str
    token: str
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class BoardCounts:
    """State of a judge's board. `silent_s` is how long the judge has asked and answered nothing, None: it never did."""

    open: int
    leased: int
    failed: int
    answered: int
    silent_s: float | None


class Board(Protocol):
    """What every board promises; `judge` names whose comparisons. Every method may raise `QueueUnavailableError`."""

    def put(self, judge: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Put comparisons up, or keep them up; returns those of them that the judge failed on, with its reason."""
        ...

    def lease(self, judge: str, *, max_items: int, lease_s: float) -> list[Lease]:
        """Give away open comparisons, first those whose lease ran out, then the oldest."""
        ...

    def settle(self, judge: str, identity: str, *, answered: bool = True) -> None:
        """The comparison has its verdict: take it off. With `answered` the judge has just given it."""
        ...

    def fail(self, judge: str, identity: str, token: str, reason: str) -> bool:
        """The holder of the lease cannot answer. False, with nothing changed, when the lease is no longer his."""
        ...

    def forget(self, judge: str, ids: Sequence[str]) -> None:
        """Take off failed comparisons: put up again, they are open."""
        ...

    def counts(self, judge: str) -> BoardCounts:
        """How many comparisons are in which state; a lease that ran out counts as open."""
        ...
