"""`python -m tests.support.logged_pull_judge URL LOG [DIE_AFTER]`: the pulling example with a log of its questions.

A line a comparison: `asked ID` when it was leased, `answered ID` when the verdict was acknowledged. With DIE_AFTER it
kills itself, as a crash would, after so many answers, holding leases of others.
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.support.data import ROOT
from tests.support.logged_push_judge import log_line, num_answered


def main() -> None:
    """Judge until killed."""
    url, log = sys.argv[1], Path(sys.argv[2])
    die_after = int(sys.argv[3]) if len(sys.argv) > 3 else None

    def heard(response: httpx.Response) -> None:
        response.read()
        if response.status_code != 200:
            return
        if response.url.path.endswith(":lease"):
            for question in response.json()["comparisons"]:
                log_line(log, ["asked", question["id"]])
            return
        log_line(log, ["answered", response.json()["id"]])
        if die_after is not None and num_answered(log) >= die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    class LoggedClient(httpx.Client):
        def __init__(self, **options: Any) -> None:
            super().__init__(event_hooks={"response": [heard]}, trust_env=False, **options)

    httpx.Client = LoggedClient
    sys.argv = ["pull_judge.py", url]
    runpy.run_path(str(ROOT / "examples" / "judges" / "pull_judge.py"), run_name="__main__")


if __name__ == "__main__":
    main()
