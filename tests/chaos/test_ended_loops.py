"""A loop that ended takes its process with it, and the launcher starts it again: no run waits for a dead thread."""

import errno
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.launcher.up import running_system
from tests.support.faulty_storage import FaultyStorage
from tests.support.stub_system import create_run, ended_run, stub_system
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(300), pytest.mark.xdist_group("ended-loops")]


def test_a_controller_whose_reconciler_ended_is_started_again_also_with_a_full_log_disk(tmp_path: Path) -> None:
    breaks, faulty = tmp_path / "break", FaultyStorage(tmp_path)
    command = (sys.executable, "-m", "tests.support.breaking_controller", str(breaks))
    options = replace(stub_system(3.0, **faulty.environment), commands={"controller": command})
    with running_system(tmp_path / "state", options) as system:
        old = system.processes["controller"]
        with faulty.failing(system.logs, errno.ENOSPC):
            breaks.touch()
            wait_until(lambda: system.processes.get("controller", old) != old, 60.0, "another controller")
            view = ended_run(system, create_run(system, tmp_path))
        assert view["state"] == "succeeded", view["reason"]
