"""A loop that ended takes its process with it, whatever the main thread does and whether or not that can be logged."""

import subprocess
import sys

import pytest

from shared.runtime.shutdown import EXIT_LOOP_ENDED
from tests.support.data import ROOT

PROGRAM = """
import os, sys, threading
from shared.runtime.shutdown import process_ends_with, stop_on_signals
from shared.runtime.telemetry import configure_logging
configure_logging("oracle", "INFO")
if {full}:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
stop, ended = stop_on_signals(), threading.Event()
def loop():
    with process_ends_with(ended, last_resort_s={last_resort_s}):
        raise {error}
threading.Thread(target=loop, daemon=True).start()
if {deaf}:
    threading.Event().wait()
stop.wait()
sys.exit("the worker ended" if ended.is_set() else 0)
"""


def status(*, full: bool = False, error: str = "ValueError('broken')", deaf: bool = False) -> int:
    program = PROGRAM.format(full=full, error=error, deaf=deaf, last_resort_s=1.0 if deaf else 60.0)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False, timeout=60
    ).returncode


@pytest.mark.parametrize("full", [False, True], ids=["logged", "full log disk"])
@pytest.mark.parametrize("error", ["ValueError('broken')", "SystemExit(0)", "MemoryError()"])
def test_a_process_whose_loop_raised_ends_with_a_failure(error: str, full: bool) -> None:
    assert status(full=full, error=error) == 1


def test_a_main_thread_that_does_not_end_is_not_waited_for() -> None:
    assert status(deaf=True) == EXIT_LOOP_ENDED
