"""Files with secrets are read where nobody else can read them, and written so."""

import os
import stat
from pathlib import Path

import pytest

from shared.runtime import key_files
from shared.runtime.key_files import is_ours_alone, read_private, write_private


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_ours_alone_is_read(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    write_private(file, "s3cret\n")
    file.chmod(mode)
    assert read_private(file) == "s3cret\n"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o602, 0o601, 0o777])
def test_a_file_that_others_can_reach_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    write_private(file, "s3cret\n")
    file.chmod(mode)
    with pytest.raises(ValueError, match=f"has mode {mode:04o}.*chmod 600 {file}") as caught:
        read_private(file)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("mode", "read"), [(0o440, True), (0o640, True), (0o444, False), (0o460, False)])
def test_a_secret_that_was_mounted_for_our_group_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, read: bool
) -> None:
    """As Kubernetes mounts one: of root, readable by the pod's group."""
    file = tmp_path / "key"
    write_private(file, "s3cret\n")
    file.chmod(mode)
    monkeypatch.setattr(key_files.os, "geteuid", lambda: file.stat().st_uid + 1)
    if read:
        assert read_private(file) == "s3cret\n"
    else:
        with pytest.raises(ValueError, match="chmod 600"):
            read_private(file)


def test_a_written_file_is_private_whatever_was_there_and_whatever_the_umask(tmp_path: Path) -> None:
    target, link = tmp_path / "theirs", tmp_path / "key"
    target.write_text("theirs")
    link.symlink_to(target)
    before = os.umask(0)
    try:
        write_private(link, "ours")
    finally:
        os.umask(before)
    assert target.read_text() == "theirs"
    assert (link.read_text(), stat.S_IMODE(link.lstat().st_mode)) == ("ours", 0o600)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["key", "theirs"]


def test_a_file_is_ours_alone_when_nobody_else_could_have_put_it_there(tmp_path: Path) -> None:
    file = tmp_path / "up.json"
    assert not is_ours_alone(file)
    write_private(file, "{}")
    assert is_ours_alone(file)
    for folder_mode, file_mode in ((0o777, 0o600), (0o775, 0o600), (0o700, 0o644), (0o700, 0o620)):
        tmp_path.chmod(folder_mode)
        file.chmod(file_mode)
        assert not is_ours_alone(file)
    tmp_path.chmod(0o755)
    file.chmod(0o600)
    assert is_ours_alone(file)
    (tmp_path / "link").symlink_to(file)
    assert not is_ours_alone(tmp_path / "link")


def test_a_file_of_somebody_else_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "up.json"
    write_private(file, "{}")
    monkeypatch.setattr(key_files.os, "geteuid", lambda: file.stat().st_uid + 1)
    assert not is_ours_alone(file)
