"""Deadlines that need no interpreter."""

import subprocess
import sys

import pytest

from shared.runtime.worker.watchdog import LONGEST_S, Watchdog

BLOCKING = """
import re
from shared.runtime.worker.watchdog import WATCHDOG

def rule_that_backtracks():
    re.match("(a+)+$", "a" * 60 + "b")

with WATCHDOG.within(3600.0), WATCHDOG.within(0.3):
    rule_that_backtracks()
"""


class Timer:
    """What the process's timer was set to."""

    def __init__(self) -> None:
        self.settings: list[float | None] = []

    def __call__(self, seconds: float | None) -> None:
        self.settings.append(seconds)


def test_work_that_never_gives_the_interpreter_away_is_ended_and_the_log_says_where_it_was() -> None:
    """No thread of Python could: the pattern takes 2^60 steps in one call."""
    ended = subprocess.run([sys.executable, "-c", BLOCKING], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "rule_that_backtracks" in ended.stderr


def test_of_several_deadlines_the_first_is_the_timers_and_the_next_one_follows_it() -> None:
    timer = Timer()
    watchdog = Watchdog(timer)
    with watchdog.within(100.0):
        with watchdog.within(10.0), watchdog.within(1000.0):
            pass
        assert timer.settings == pytest.approx([100.0, 10.0, 10.0, 10.0, 100.0], abs=1.0)
    assert timer.settings[-1] is None


def test_a_deadline_that_no_timer_takes_is_far_away_and_no_error() -> None:
    timer = Timer()
    with Watchdog(timer).within(float("inf")):
        assert timer.settings == pytest.approx([LONGEST_S], abs=1.0)
    with Watchdog().within(float("inf")):
        pass
