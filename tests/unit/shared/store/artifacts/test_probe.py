"""Whether a store can be written to is found out by writing; whether it ever can, when a service starts."""

import errno
import os
from pathlib import Path

import pytest

from shared.runtime.opening import open_store
from shared.runtime.settings import Settings
from shared.store.artifacts.probe import FRESH_S, DirectoryProbe, UnusableStoreError, opened
from shared.store.queue.memory_queue import ManualClock


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> list[int]:
    """Calls of `os.<name>`, all of which fail."""
    calls: list[int] = []

    def fail(*_: object, **__: object) -> None:
        calls.append(number)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)
    return calls


def test_a_store_that_can_be_written_to_has_no_trouble_and_is_left_as_it_was(tmp_path: Path) -> None:
    assert DirectoryProbe(tmp_path, floor_bytes=0).trouble() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EIO, "failing")]
)
def test_a_store_that_refuses_is_in_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str
) -> None:
    failing(monkeypatch, "fsync", number)
    trouble = DirectoryProbe(tmp_path, floor_bytes=0).trouble()
    assert trouble is not None
    assert trouble.startswith(f"the storage is {kind}: {os.strerror(number)}")
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_trouble_before_the_disk_is_full(tmp_path: Path) -> None:
    trouble = DirectoryProbe(tmp_path, floor_bytes=2**62).trouble()
    assert trouble is not None
    assert "MiB left" in trouble


def test_many_looks_within_a_moment_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    probe = DirectoryProbe(tmp_path, floor_bytes=0, clock=clock)
    calls = failing(monkeypatch, "fsync", errno.ENOSPC)
    for _ in range(50):
        assert probe.trouble() is not None
    assert len(calls) == 1
    monkeypatch.undo()
    clock.advance(FRESH_S)
    assert probe.trouble() is None


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(monkeypatch, "link", number)
    with pytest.raises(UnusableStoreError, match=r"INPO_STORE_DIR: .* without hard links .* ext4"):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit, match="without hard links"):
        open_store(Settings(store_dir=tmp_path))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_store_that_is_full_or_read_only_for_now_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(monkeypatch, "link", number)
    assert opened(tmp_path).root == tmp_path


def test_a_store_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableStoreError, match="cannot be made: Not a directory"):
        opened(tmp_path / "file" / "store")
