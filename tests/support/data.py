"""Real data outside the repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def outside_data(relative: str) -> Path:
    """A file or directory below `INPO_TEST_DATA`; skips the test, naming it, where it is absent."""
    folder = Path(os.environ.get("INPO_TEST_DATA", ROOT.parent / "shared" / "data"))
    path = folder / relative
    if not path.exists():
        pytest.skip(f"needs {path}: set INPO_TEST_DATA to a folder that holds {relative}")
    return path
