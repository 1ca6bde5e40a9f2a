"""A text stream whose reader may fail: a full disk, a closed pipe. Whoever writes to it never hears of that."""

import io
import json
import os
import threading
from datetime import UTC, datetime
from typing import TextIO, cast

from prometheus_client import Counter

_lost_lines = Counter("inpo_log_lines_lost", "Log lines that could not be written: a full disk, a closed pipe.")


class LossyStream(io.TextIOBase):
    """Whole lines, straight to a descriptor. A line that cannot be written is lost, and counted.

    The first line that can be written again comes after one that says how many were lost, and why.
    """

    def __init__(self, descriptor: int, service: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._service = service
        self._lock = threading.RLock()  # a signal's handler may print while its thread does
        self._begun = ""
        self._torn = False
        self._lost = 0
        self._reason = ""

    @classmethod
    def around(cls, stream: TextIO, service: str) -> TextIO:
        """In the place of a standard stream; one without a descriptor, which tests put there, stays as it is."""
        try:
            stream.flush()
            return cast(TextIO, cls(stream.fileno(), service))
        except (OSError, ValueError, AttributeError):
            return stream

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `io.TextIOBase`."""
        return "utf-8"

    def fileno(self) -> int:
        """See `io.TextIOBase`."""
        return self._descriptor

    def isatty(self) -> bool:
        """See `io.TextIOBase`."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """See `io.TextIOBase`."""
        return True

    def write(self, text: str, /) -> int:
        """Never raises. What follows the last line break waits for its own."""
        with self._lock:
            whole, line_break, self._begun = (self._begun + text).rpartition("\n")
            if line_break:
                self._emit(whole + line_break)
        return len(text)

    def flush(self) -> None:
        """Never raises. Also a line that has no end yet."""
        with self._lock:
            begun, self._begun = self._begun, ""
            if begun:
                self._emit(begun)

    def _emit(self, lines: str) -> None:
        data = self._obituary() + lines.encode(errors="replace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
                self._torn = True
        except OSError as error:
            num = max(1, lines.count("\n"))
            self._lost += num
            self._reason = str(error)
            _lost_lines.inc(num)
        else:
            self._torn, self._lost = False, 0

    def _obituary(self) -> bytes:
        """What is said before the first line after a loss; a line that was cut off is ended first."""
        if not self._lost:
            return b""
        entry = {
            "service": self._service,
            "event": "log_lines_lost",
            "num": self._lost,
            "reason": self._reason,
            "level": "warning",
            "timestamp": datetime.now(UTC).isoformat(),
        }
        return (b"\n" if self._torn else b"") + json.dumps(entry).encode() + b"\n"
