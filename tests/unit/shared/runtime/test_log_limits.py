"""The same line is not written a hundred times a second, and what was left out is counted."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from shared.runtime.log_limits import BURST, RepeatLimit, tell_of_libraries
from shared.store.queue.memory_queue import ManualClock
from tests.support.data import ROOT

PROGRAM = """
import structlog
from shared.runtime.telemetry import configure_logging
configure_logging("controller", "INFO")
for number in range(1000):
    structlog.get_logger().error("request_failed", number=number)
structlog.get_logger().info("span", name="after")
"""


def told(limit: RepeatLimit, event: str, num: int) -> Iterator[dict[str, object]]:
    for _ in range(num):
        try:
            yield dict(limit(None, "error", {"event": event}))
        except structlog.DropEvent:
            continue


def test_a_burst_is_told_and_then_one_a_second_with_the_number_left_out() -> None:
    clock = ManualClock()
    limit = RepeatLimit(clock=clock)
    assert len(list(told(limit, "failed", 1000))) == BURST
    assert len(list(told(limit, "another", 1))) == 1
    clock.advance(1.0)
    assert list(told(limit, "failed", 1000)) == [{"event": "failed", "suppressed": 1000 - BURST}]
    clock.advance(10.0 * BURST)
    assert len(list(told(limit, "failed", 1000))) == BURST


def test_spans_are_always_told() -> None:
    assert len(list(told(RepeatLimit(), "span", 1000))) == 1000


def test_a_service_writes_few_of_a_thousand_equal_lines() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert BURST <= events.count("request_failed") < 2 * BURST
    assert events[-1] == "span"


def test_a_librarys_warnings_are_lines_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("tests.library")
    tell_of_libraries("tests.library")
    with structlog.testing.capture_logs() as lines:
        logger.warning("socket %s failed", 7)
        logger.info("unheard")
    assert [(line["event"], line["message"], line["arguments"]) for line in lines] == [
        ("library", "socket %s failed", "(7,)")
    ]
