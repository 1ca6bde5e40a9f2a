"""`python -m tests.support.logged_push_judge PORT LOG [DIE_AFTER]`: the pushed example with a log of its questions.

A line an item: `asked ID` before it answers, `answered ID` after. With DIE_AFTER it kills itself, as a crash would,
in the middle of the request that follows so many answers: asked, and never answered.
"""

import os
import signal
import sys
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from examples.judges.push_judge import Judge


def log_line(file: Path, words: Sequence[str]) -> None:
    """Append; every line is whole, and there when the process dies."""
    with file.open("a") as log:
        log.write(" ".join(words) + "\n")


def num_answered(file: Path) -> int:
    """Comparisons answered so far."""
    return file.read_text().count("answered ") if file.exists() else 0


def main() -> None:
    """Serve until killed."""
    port, log = int(sys.argv[1]), Path(sys.argv[2])
    die_after = int(sys.argv[3]) if len(sys.argv) > 3 else None

    class LoggedJudge(Judge):
        def do_POST(self) -> None:  # noqa: N802  (the base class' name)
            self.seen: list[str] = []
            super().do_POST()
            for identity in self.seen:
                log_line(log, ["answered", identity])

        def result(self, item: dict[str, Any], first: str, second: str) -> dict[str, Any]:
            self.seen.append(item["id"])
            log_line(log, ["asked", item["id"]])
            if die_after is not None and num_answered(log) >= die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().result(item, first, second)

        def log_message(self, format: str, *args: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), LoggedJudge).serve_forever()


if __name__ == "__main__":
    main()
