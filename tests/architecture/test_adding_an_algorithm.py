"""docs/adding-an-algorithm.md is executed: its files are written into a copy of the code, its commands are run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding-an-algorithm.md"
FILE = re.compile(r"<!-- file: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)
PROGRAMS = {
    "pytest": ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"],
    "inpo": ["-m", "services.cli.main"],
}
IN_A_RUN = """
from shared.contracts.spec import (AlgorithmSpec)
from shared.inpo.plan import Iterate
spec = AlgorithmSpec.model_validate({"name": "fictitious_play", "eta": 0.6, "tau": 0.1})
assert "fictitious_play" in AlgorithmSpec.model_json_schema()["properties"]["name"]["enum"]
try:
    AlgorithmSpec.model_validate({"name": "fictitious_play", "tau": 0.1})
except ValueError as error:
    assert "fictitious_play needs `eta`" in str(error), error
else:
    raise AssertionError("a missing eta was accepted")
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code as it is, and the page's files beside it."""
    for name in ("shared", "services", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    files = FILE.findall(PAGE.read_text(encoding="utf-8"))
    for name, content in files:
        assert not (tmp_path / name).exists(), f"{name} is part of the repository now: choose another example"
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert [name for name, _ in files] == [
        "shared/inpo/algorithms/fictitious_play.py",
        "tests/numerics/test_fictitious_play.py",
    ]
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_walk_works(copy: Path) -> None:
    """One file and its tests: the page's tests pass, the command plays it, a run's specification takes it."""
    [block] = COMMANDS.findall(PAGE.read_text(encoding="utf-8"))
    outputs: dict[str, str] = {}
    for line in block.splitlines():
        program, *arguments = line.split()
        outputs[program] = run(copy, *PROGRAMS[program], *arguments)
    assert "4 passed" in outputs["pytest"]
    assert "fictitious_play:eta=0.6" in outputs["inpo"]
    run(copy, "-c", IN_A_RUN)
