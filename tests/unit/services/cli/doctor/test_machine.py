"""Questions to the real machine: whatever goes wrong is an answer."""

import sys
from pathlib import Path

import pytest

from services.cli.doctor.machine import Machine, UnansweredError
from services.cli.launcher.redis_server import free_port


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libtorch.so: no such file')", "libtorch.so: no such file"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with -9"),
    ],
)
def test_a_program_that_dies_says_why(code: str, reason: str) -> None:
    with pytest.raises(UnansweredError, match=reason):
        Machine().output([sys.executable, "-I", "-c", code], timeout_s=30.0)


def test_a_program_that_hangs_is_given_up() -> None:
    with pytest.raises(UnansweredError, match="no answer within 0 s"):
        Machine().output([sys.executable, "-I", "-c", "import signal; signal.pause()"], 0.1)


def test_a_program_that_is_not_there_is_no_crash() -> None:
    with pytest.raises(UnansweredError, match="No such file"):
        Machine().output(["no-such-program"])


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_the_one_above(tmp_path: Path) -> None:
    found = Machine().disk(tmp_path / "not" / "yet")
    assert found.writable
    assert found.free > 0


def test_nobody_listening_is_an_answer() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnansweredError):
        Machine().get(f"http://{address}/readyz")
    with pytest.raises(UnansweredError):
        Machine().redis_version(f"redis://{address}/0")


def test_an_address_of_another_kind_is_not_quoted() -> None:
    with pytest.raises(UnansweredError) as caught:
        Machine().redis_version("postgres://:hunter2@db/0")
    assert "hunter2" not in str(caught.value)
