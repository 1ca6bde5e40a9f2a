"""`inpo up` as a person runs it, with the real services."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from services.cli.client import Api
from services.cli.launcher.redis_server import free_port
from services.cli.launcher.up import Whereabouts, whereabouts
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def test_inpo_up_serves_until_it_is_told_to_stop_and_leaves_nothing_running(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.cli.main", "up", "--state-dir", str(tmp_path), "--port"]
    launcher = subprocess.Popen([*command, str(free_port())], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: whereabouts(tmp_path) is not None or launcher.poll() is not None, 90.0, "the system to be up")
    found = whereabouts(tmp_path)
    assert isinstance(found, Whereabouts)
    processes = psutil.Process(launcher.pid).children()
    assert len(processes) == 5
    assert Api(found.url).runs() == []
    assert httpx.get(f"{found.oracle_url}/readyz", trust_env=False).status_code == 200
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate(timeout=60.0)
    assert launcher.returncode == 0
    assert found.url in output
    assert "controller running, process" in output
    assert not [process for process in processes if process.is_running()]
    assert whereabouts(tmp_path) is None
