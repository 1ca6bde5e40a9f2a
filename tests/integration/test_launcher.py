"""The launcher with stub services and a real embedded Redis."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from services.cli.failures import StartError
from services.cli.launcher.redis_server import answers_ping
from services.cli.launcher.up import SERVICES, RunningSystem, running_system, whereabouts
from tests.support.stub_launcher import stub_options
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _group(leader: int) -> list[int]:
    """Live members of a process group, watchers included."""
    members: list[int] = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and _alive(process.pid):
                members.append(process.pid)
        except ProcessLookupError:
            continue
    return members


def _comes_back(system: RunningSystem, name: str, old: int) -> None:
    wait_until(lambda: system.processes.get(name, old) != old, 20.0, f"{name} under a new process id")


def test_redis_and_the_four_services_run_and_end_with_the_context(tmp_path: Path) -> None:
    with running_system(tmp_path, stub_options()) as system:
        started = system.processes
        assert set(started) == {"redis", *SERVICES}
        assert len(set(started.values())) == 5
        assert system.redis_port is not None
        assert answers_ping(system.redis_port)
        found = whereabouts(tmp_path)
        assert found is not None
        assert (found.url, found.store_dir) == (system.url, tmp_path / "store")
    assert not [pid for pid in started.values() if _group(pid)]
    assert whereabouts(tmp_path) is None


def test_nothing_of_the_folder_that_it_is_started_in_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that was cloned or unpacked may hold a module by the name of one that every service imports."""
    folder, state = tmp_path / "cloned", Path("state")
    folder.mkdir()
    (folder / "http.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\n")
    monkeypatch.chdir(folder)
    with running_system(state, stub_options()) as system:
        for name in SERVICES:
            assert Path(psutil.Process(system.processes[name]).cwd()) == folder / "state"
    assert not (tmp_path / "was-run").exists()


def test_what_a_system_leaves_in_its_folder_is_for_its_user_alone(tmp_path: Path) -> None:
    """Also where the umask is that of a group, and the folder was there before."""
    state = tmp_path / "state"
    before = os.umask(0o002)
    try:
        state.mkdir()
        with running_system(state, stub_options()):
            found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in state.iterdir()}
            found |= {file.name: stat.S_IMODE(file.stat().st_mode) for file in (state / "logs").iterdir()}
            assert whereabouts(state) is not None
    finally:
        os.umask(before)
    assert {found[name] for name in ("up.json", "up.lock", "redis.log", "controller.log")} == {0o600}
    assert {found[name] for name in ("logs", "redis")} == {0o700}


def test_a_killed_service_comes_back_and_nothing_of_its_group_stays(tmp_path: Path) -> None:
    """The trainer's child ignores SIGTERM, as an engine's worker holding a port and memory would."""
    orphan = tmp_path / "orphan.pid"
    with running_system(tmp_path, stub_options(orphan=orphan)) as system:
        wait_until(orphan.exists, 20.0, "the trainer's child")
        old, child = system.processes["trainer"], int(orphan.read_text())
        os.kill(old, signal.SIGKILL)
        _comes_back(system, "trainer", old)
        wait_until(lambda: not _alive(child), 10.0, "the old trainer's child to end")
        assert not _group(old)
        (status,) = [status for status in system.statuses() if status.name == "trainer"]
        assert (status.restarts, status.last_exit) == (1, "SIGKILL")


def test_a_killed_redis_comes_back_on_its_port_with_what_it_held(tmp_path: Path) -> None:
    """`appendfsync everysec` writes every command to the file at once; only the disk may lag, and it did not die."""
    with running_system(tmp_path, stub_options()) as system:
        port = system.redis_port
        assert port is not None
        assert _ask(port, "SET answer 42") == "+OK"
        old = system.processes["redis"]
        os.kill(old, signal.SIGKILL)
        _comes_back(system, "redis", old)
        wait_until(lambda: answers_ping(port), 20.0, "Redis on its old port")
        assert _ask(port, "GET answer").splitlines()[1] == "42"


def test_all_at_once_come_back(tmp_path: Path) -> None:
    with running_system(tmp_path, stub_options()) as system:
        before = system.processes
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in before.items():
            _comes_back(system, name, pid)


def test_no_process_outlives_a_launcher_that_was_killed(tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-m", "tests.support.stub_launcher", str(tmp_path)], stdout=subprocess.PIPE
    )
    assert launcher.stdout is not None
    processes: dict[str, int] = json.loads(launcher.stdout.readline())
    wait_until((tmp_path / "orphan.pid").exists, 20.0, "the trainer's child")
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    wait_until(lambda: not any(_group(pid) for pid in processes.values()), 20.0, "every group to end")
    assert not _alive(int((tmp_path / "orphan.pid").read_text()))


def test_a_new_launcher_waits_for_the_processes_of_a_killed_one(tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-m", "tests.support.stub_launcher", str(tmp_path)], stdout=subprocess.PIPE
    )
    assert launcher.stdout is not None
    processes: dict[str, int] = json.loads(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    with running_system(tmp_path, stub_options()) as system:
        assert not [pid for pid in processes.values() if _group(pid)]
        assert set(system.processes) == {"redis", *SERVICES}


def test_a_second_launcher_is_told_who_holds_the_state_directory(tmp_path: Path) -> None:
    with (
        running_system(tmp_path, stub_options()),
        pytest.raises(StartError, match=rf"another inpo up \(process {os.getpid()}\).*--state-dir"),
        running_system(tmp_path, stub_options()),
    ):
        pass


def test_a_service_that_does_not_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    stub = stub_options()
    crash = (sys.executable, "-m", "tests.support.stub_service", "crash", "INPO_TAU: no such setting")
    options = replace(stub, commands={**stub.commands, "oracle": crash})
    with (
        pytest.raises(StartError, match=r"(?s)oracle does not start.*oracle\.log.*INPO_TAU: no such setting"),
        running_system(tmp_path, options),
    ):
        pass


def test_a_port_in_use_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(StartError, match=f"port {port} is in use: choose another with --port"),
            running_system(tmp_path, replace(stub_options(), port=port)),
        ):
            pass


def _ask(port: int, command: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(1024).decode().strip()
