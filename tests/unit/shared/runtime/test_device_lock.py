"""One accelerator, two services: the lock between processes, and the policy that sleeps before it lets go."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared.runtime.device_lock import DeviceLock, SharedDevice
from tests.support.data import ROOT
from tests.support.waiting import wait_until

HOLDER = """
import sys, pathlib
from shared.runtime.device_lock import DeviceLock
with DeviceLock(pathlib.Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


def free(file: Path) -> bool:
    """Whether somebody else could have the lock."""
    stop = threading.Event()
    stop.set()
    with DeviceLock(file).held(stop) as had:
        return had


def test_without_a_file_nothing_is_shared() -> None:
    lock = DeviceLock(None)
    with lock.held() as had:
        assert had
        assert not lock.holding


def test_one_holder_at_a_time_and_the_next_one_follows(tmp_path: Path) -> None:
    file = tmp_path / "new" / "device.lock"
    with DeviceLock(file).held():
        assert not free(file)
        other = DeviceLock(file)
        thread = threading.Thread(target=other.take)
        thread.start()
        assert not other.holding
    thread.join()
    assert other.holding
    other.release()
    assert free(file)


def test_whoever_waits_and_is_told_to_stop_goes_without_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "device.lock"
    stop = threading.Event()
    stop.set()
    with DeviceLock(file).held(), DeviceLock(file).held(stop) as had:
        assert not had


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "device.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert not free(file)
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    assert free(file)


def test_the_policy_wakes_its_engine_once_for_work_that_overlaps_and_rests_when_idle(tmp_path: Path) -> None:
    file = tmp_path / "device.lock"
    calls: list[str] = []
    device = SharedDevice(
        DeviceLock(file), wake=lambda: calls.append("wake"), rest=lambda: calls.append("rest"), idle_s=0.05
    )
    with device.working(), device.working():
        assert calls == ["wake"]
        assert not free(file)
    wait_until(lambda: free(file), 20.0, "the lock to be let go")
    assert calls == ["wake", "rest"]
    with device.working():
        assert calls == ["wake", "rest", "wake"]
    wait_until(lambda: len(calls) == 4 and free(file), 20.0, "the lock to be let go again")


def test_an_engine_that_does_not_wake_lets_the_other_service_have_the_device(tmp_path: Path) -> None:
    file = tmp_path / "device.lock"

    def wake() -> None:
        raise RuntimeError("no answer to /wake_up")

    device = SharedDevice(DeviceLock(file), wake=wake, rest=lambda: None)
    with pytest.raises(RuntimeError, match="wake_up"), device.working():
        raise AssertionError("there is no device to work on")
    assert free(file)


def test_the_lock_is_let_go_even_when_the_engine_cannot_be_put_to_rest(tmp_path: Path) -> None:
    """A server that died has no memory to give back."""
    file = tmp_path / "device.lock"
    refused = threading.Event()

    def rest() -> None:
        refused.set()
        raise OSError("connection refused")

    device = SharedDevice(DeviceLock(file), wake=lambda: None, rest=rest, idle_s=0.01)
    with device.working():
        pass
    assert refused.wait(20.0)
    wait_until(lambda: free(file), 20.0, "the lock to be let go")
