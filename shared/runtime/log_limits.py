"""What happens a hundred times a second is not told a hundred times a second: the log's own size is bounded."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from structlog.typing import EventDict

BURST = 50
PER_S = 1.0
# Spans are one for each piece of work, and what their durations are read from.
UNLIMITED = frozenset({"span"})
# Texts of libraries are theirs; beyond so many different ones all counts begin anew.
_MAX_COUNTED = 1000


@dataclass(slots=True)
class _Allowance:
    left: float
    at_s: float
    num_suppressed: int = 0


class RepeatLimit:
    """A processor of structlog's: of one event `BURST` lines, and then `PER_S` a second; each tells how many were not.

    `suppressed` is the number of lines of this event that were left out since the one before. Thread-safe.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._allowances: dict[tuple[str, str], _Allowance] = {}
        self._lock = threading.Lock()

    def __call__(self, _logger: Any, _method: str, entry: EventDict) -> EventDict:
        """The entry, or `structlog.DropEvent`."""
        event = str(entry.get("event"))
        if event in UNLIMITED:
            return entry
        num_suppressed = self._take((event, str(entry.get("message"))))
        return {**entry, "suppressed": num_suppressed} if num_suppressed else entry

    def _take(self, key: tuple[str, str]) -> int:
        now = self._clock()
        with self._lock:
            if len(self._allowances) >= _MAX_COUNTED and key not in self._allowances:
                self._allowances.clear()
            allowance = self._allowances.setdefault(key, _Allowance(BURST, now))
            allowance.left = min(BURST, allowance.left + (now - allowance.at_s) * PER_S)
            allowance.at_s = now
            if allowance.left < 1.0:
                allowance.num_suppressed += 1
                raise structlog.DropEvent
            allowance.left -= 1.0
            num_suppressed, allowance.num_suppressed = allowance.num_suppressed, 0
        return num_suppressed


class _Teller(logging.Handler):
    """Passes a library's records on as lines of ours, told apart by their text without its arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        log: Any = structlog.get_logger(record.name)
        log.log(
            record.levelno,
            "library",
            logger=record.name,
            message=str(record.msg),
            arguments=str(record.args) if record.args else None,
            exc_info=record.exc_info,
        )


def tell_of_libraries(*names: str) -> None:
    """Let these loggers of the standard library write into our log, JSON and limited, from warnings on."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers = [_Teller(logging.WARNING)]
        logger.propagate = False
