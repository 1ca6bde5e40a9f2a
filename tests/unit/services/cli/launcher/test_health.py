"""A server that is ill while its process lives is ended and started again."""

import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from services.cli.launcher import health
from services.cli.launcher.health import Health, HealthWatch
from services.cli.launcher.supervisor import Command, Supervisor
from tests.support.waiting import wait_until

FOR_EVER = (sys.executable, "-c", "import threading; threading.Event().wait()")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "INTERVAL_S", 0.01)


@pytest.fixture
def stopping() -> Generator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def supervised(tmp_path: Path, probe: Health) -> Supervisor:
    return Supervisor([Command("server", FOR_EVER, os.environ, tmp_path / "server.log", health=probe)])


def test_a_process_that_was_healthy_and_is_so_no_more_is_started_again(tmp_path: Path) -> None:
    """Kill -9 of vLLM's EngineCore leaves its API server behind, which then says 503 for a while."""
    well = threading.Event()
    well.set()
    supervisor = supervised(tmp_path, Health(well.is_set, num_failures=3))
    supervisor.start()
    try:
        wait_until(lambda: bool(supervisor.pids()), 20.0, "the server to run")
        old = supervisor.pids()["server"]
        pause = threading.Event()
        assert not pause.wait(0.3)
        assert supervisor.pids()["server"] == old
        well.clear()
        wait_until(lambda: supervisor.statuses()[0].restarts >= 1, 20.0, "the server to be started again")
        well.set()
        wait_until(lambda: supervisor.pids().get("server", old) != old, 20.0, "a new process")
        assert supervisor.statuses()[0].last_exit == "SIGKILL"
    finally:
        supervisor.stop()


def test_a_process_that_never_becomes_healthy_is_started_again_after_its_time(tmp_path: Path) -> None:
    supervisor = supervised(tmp_path, Health(lambda: False, start_s=0.2))
    supervisor.start()
    try:
        wait_until(lambda: supervisor.statuses()[0].restarts >= 1, 20.0, "the server to be started again")
    finally:
        supervisor.stop()


def test_a_start_takes_its_time_and_single_failures_are_forgiven(stopping: threading.Event) -> None:
    """Probes: no no no yes no no yes no no no. Ill after three failures in a row, but not before the first yes."""
    answers = [False, False, False, True, False, False, True, False, False, False]
    seen: list[bool] = []
    asked = threading.Semaphore(0)
    answered = threading.Event()

    def probe() -> bool:
        if not answers:
            answered.set()
            stopping.wait(20.0)
            return False
        asked.acquire(timeout=20.0)
        return answers.pop(0)

    watch = HealthWatch(Health(probe, start_s=60.0, num_failures=3), stopping)
    watch.started()
    for left in range(len(answers), 0, -1):
        seen.append(watch.ill())
        asked.release()
        wait_until(lambda at=left: len(answers) < at, 20.0, "the next probe")
    assert not any(seen[:8])
    assert answered.wait(20.0)
    assert watch.ill()
    assert not watch.healthy()
    watch.started()
    assert not watch.ill()
