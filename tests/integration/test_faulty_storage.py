"""The tool of the storage tests refuses exactly what it is told to."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.data import ROOT
from tests.support.faulty_storage import LINK, FaultyStorage

PROGRAM = """
import sys
from pathlib import Path
from shared.store.artifacts.store import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]))
for line in sys.stdin:
    try:
        print(store.create(line.strip(), b"content"), flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_writes_below_the_folder_fail_until_the_block_ends(tmp_path: Path, error: int) -> None:
    faulty = FaultyStorage(tmp_path)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store")]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | faulty.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def create(key: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            print(key, file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        assert create("a/1") == "True"
        with faulty.failing(tmp_path / "store", error):
            assert create("a/2") == str(error)
        with faulty.failing(tmp_path / "elsewhere", error):
            assert create("a/3") == "True"
        with faulty.failing(tmp_path / "store", errno.EPERM, calls=LINK):
            assert create("a/4") == str(errno.EPERM)
        # An artifact is five calls: its file is made, written and synced, linked, and its folder synced.
        faulty.fail(tmp_path / "store", errno.EIO, after=5, times=1)
        assert [create("a/5"), create("a/6"), create("a/7")] == ["True", str(errno.EIO), "True"]
        faulty.heal()
        assert create("a/8") == "True"
        process.stdin.close()
