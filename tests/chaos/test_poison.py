"""Poison ends as a dead letter: its run fails with that reason, after everything else has finished."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from services.cli.launcher.up import RunningSystem, running_system
from tests.support.stub_system import create_run, ended_run, stub_system

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(300), pytest.mark.xdist_group("poison")]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningSystem]:
    options = stub_system(1.0, INPO_DEADLINE_S="2")
    with running_system(tmp_path_factory.mktemp("poison"), options) as running:
        yield running


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("poison that raises", "ValueError: this prompt is poison"),
        ("poison that kills", "the worker died"),
        ("poison that hangs", "deadline of 2 s exceeded"),
    ],
)
def test_poison_fails_its_run_with_the_reason_after_everything_else_has_finished(
    system: RunningSystem, tmp_path: Path, poison: str, reason: str
) -> None:
    run = create_run(system, tmp_path, poison)
    view = ended_run(system, run)
    assert view["state"] == "failed"
    assert "given up" in view["reason"]
    assert reason in view["reason"]
    step = system.store_dir / "runs" / run / "iterations" / "0001" / "half-1"
    (letter,) = step.glob("dead/*.json")
    assert json.loads(letter.read_text())["attempts"] == 3
    poisoned = int(letter.stem.rpartition("-")[2])
    others = {f"{shard:05d}.parquet" for shard in range(4) if shard != poisoned}
    assert {path.name for path in step.glob("pairs/*.parquet")} == others
