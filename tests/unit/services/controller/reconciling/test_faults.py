"""What is broken of a run stays so until somebody mends it; what is away, or scarce just now, is waited for."""

import errno
import os

import pytest

from services.controller.reconciling.faults import is_broken, unless_broken
from shared.store.artifacts.store import CorruptArtifactError, MissingArtifactError
from shared.store.buckets.object_store import StoreUnavailableError
from shared.store.queue.protocol import QueueUnavailableError

AWAY = [
    QueueUnavailableError("lost"),
    StoreUnavailableError("s3://bucket", "no answer"),
    MemoryError(),
    *(OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE)),
]
BROKEN = [
    MissingArtifactError("plan.json"),
    CorruptArtifactError("plan.json: torn"),
    ArithmeticError("no such game"),
    *(OSError(number, os.strerror(number)) for number in (errno.ENOENT, errno.EACCES, errno.EISDIR)),
]


@pytest.mark.parametrize("error", AWAY, ids=repr)
def test_what_is_away_is_raised_for_whoever_waits(error: Exception) -> None:
    def read() -> None:
        raise error

    assert not is_broken(error)
    with pytest.raises(type(error)):
        unless_broken(read, lambda _: None)


@pytest.mark.parametrize("error", BROKEN, ids=repr)
def test_what_is_broken_is_answered_with_something_else(error: Exception) -> None:
    def read() -> str:
        raise error

    assert unless_broken(read, str) == str(error)
    assert unless_broken(lambda: "there", str) == "there"
