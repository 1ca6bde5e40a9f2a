"""A budget of requests that all processes share: a token bucket a name."""

from typing import Protocol


class Budget(Protocol):
    """What every budget promises. Every method may raise `QueueUnavailableError`."""

    def take(self, name: str, *, per_minute: float) -> float:
        """0.0 when one request may be sent now, and counted; otherwise the seconds after which to ask again.

        The bucket refills evenly and holds what one second earns, at least one: no minute sees more than
        `per_minute` and one bucket.
        """
        ...

    def hold(self, name: str, seconds: float) -> None:
        """Nobody may send for this long, because the other side said so; a longer hold is never shortened."""
        ...
