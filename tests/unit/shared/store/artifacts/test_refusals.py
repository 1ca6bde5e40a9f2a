"""Storage that refuses is recognised whoever met it, and nothing else is taken for it."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from shared.store.artifacts.refusals import refusal
from tests.support.data import ROOT


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "read-only"),
        (errno.EPERM, "read-only"),
        (errno.EIO, "failing"),
    ],
)
def test_the_systems_errors_have_their_kinds(number: int, kind: str) -> None:
    found = refusal(OSError(number, "text", "/store/runs/x"))
    assert found is not None
    assert (found.kind, found.errno) == (kind, number)
    assert "/store/runs/x" in str(found)
    assert found.remedy in str(found)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("full"),
        FileNotFoundError(errno.ENOENT, "x"),
        RuntimeError("CUDA out of memory"),
        OSError("no number"),
    ],
)
def test_other_errors_are_no_refusals(error: Exception) -> None:
    assert refusal(error) is None


def test_a_forbidden_file_is_the_stores_affair_only_below_it() -> None:
    store = Path("/store")
    assert refusal(PermissionError(errno.EACCES, "no", "/home/me/model/config.json"), store) is None
    assert refusal(PermissionError(errno.EACCES, "no", "/store/runs"), store) is not None
    assert refusal(PermissionError(errno.EPERM, "no", "/store/.a", None, "/store/a"), store) is not None


def test_a_cause_is_found_below_the_error_that_it_was_told_as() -> None:
    told = ValueError("the hub does not give it")
    told.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/cache/model")
    assert refusal(told) is not None


def test_what_was_handled_before_an_error_is_not_its_cause() -> None:
    later = KeyError("prompt")
    later.__context__ = OSError(errno.EIO, "x")
    assert refusal(later) is None


WRITERS = """
import sys, torch
from safetensors.torch import save_file
tensor = {"a": torch.zeros(2**18)}
def to_file():
    with open(FULL, "wb", buffering=0) as file:
        torch.save(tensor, file)
FULL = "/dev/full"
from shared.store.artifacts.refusals import refusal
for write in (lambda: torch.save(tensor, FULL), to_file):
    try:
        write()
    except Exception as error:
        print(refusal(error).kind)
"""


def test_torchs_own_writers_are_recognised() -> None:
    """By its path torch loses the system's number: that much is known that the storage failed."""
    done = subprocess.run([sys.executable, "-c", WRITERS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["failing", "full"], done.stderr


def test_safetensors_text_is_recognised() -> None:
    class SafetensorError(Exception):
        pass

    text = 'Error while serializing: I/O error: No space left on device (os error 28) at path "/store/x"'
    older = 'Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'
    for found in (refusal(SafetensorError(text)), refusal(SafetensorError(older))):
        assert found is not None
        assert (found.kind, found.errno) == ("full", errno.ENOSPC)
    assert refusal(SafetensorError("Error while deserializing header: HeaderTooLarge")) is None
