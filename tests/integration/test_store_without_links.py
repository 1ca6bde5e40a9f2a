"""A store on a file system without hard links is refused at start, by every service and with the remedy."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.data import ROOT
from tests.support.faulty_storage import LINK, FaultyStorage

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("service", ["controller", "policy", "oracle", "trainer"])
def test_a_service_ends_with_the_reason_before_it_takes_any_work(tmp_path: Path, service: str) -> None:
    faulty, store = FaultyStorage(tmp_path), tmp_path / "store"
    faulty.fail(store, errno.EPERM, calls=LINK)
    environment = os.environ | faulty.environment | {"INPO_STORE_DIR": str(store)}
    command = [sys.executable, "-m", f"services.{service}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"INPO_STORE_DIR: {store} is on a file system without hard links")
    assert "put it on ext4" in last
