"""What several ranks pick up after a crash: all of it or nothing. One rank stands for all where none disagrees."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.trainer.checkpoints.sharded import HEAD, SharedWorkspace
from services.trainer.forward.log_probs import LogProbs
from services.trainer.ranks import ALONE
from shared.contracts.weights import WeightVersion

VERSION = WeightVersion(run="run", number=0, digest="ab" * 32, directory="nowhere")


def workspace(folder: Path, work: str = "work", layout: str = "fsdp2, 1 processes") -> SharedWorkspace:
    return SharedWorkspace(folder / "w", work, ALONE, layout)


def restored(found: SharedWorkspace) -> tuple[int, dict[str, float], list[dict[str, Any]]]:
    states: list[dict[str, Any]] = []
    step, metrics = found.restore(states.append)
    return step, metrics, states


def test_the_last_complete_checkpoint_is_restored_and_the_one_before_it_removed(tmp_path: Path) -> None:
    for step in (2, 4):
        workspace(tmp_path).save(step, {"model": [torch.full((3,), float(step))]}, {"loss_last": step / 8})
    step, metrics, (state,) = restored(workspace(tmp_path))
    assert (step, metrics) == (4, {"loss_last": 0.5})
    assert state["model"][0].tolist() == [4.0, 4.0, 4.0]
    assert sorted(file.name for file in (tmp_path / "w").iterdir()) == ["checkpoint-4-rank-0.pt", HEAD]


def test_a_crash_before_all_ranks_have_written_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    """The rank's file of step 4 is there, the head still says step 2."""
    workspace(tmp_path).save(2, {"at": 2}, {})
    head = (tmp_path / "w" / HEAD).read_bytes()
    older = (tmp_path / "w" / "checkpoint-2-rank-0.pt").read_bytes()
    workspace(tmp_path).save(4, {"at": 4}, {})
    (tmp_path / "w" / HEAD).write_bytes(head)
    (tmp_path / "w" / "checkpoint-2-rank-0.pt").write_bytes(older)
    assert restored(workspace(tmp_path)) == (2, {}, [{"at": 2}])


@pytest.mark.parametrize(
    "other", [{"work": "other work"}, {"layout": "fsdp2, 2 processes"}, {"layout": "deepspeed, ZeRO stage 1"}]
)
def test_another_work_or_layout_begins_anew(tmp_path: Path, other: dict[str, str]) -> None:
    workspace(tmp_path).save(2, {}, {})
    assert restored(workspace(tmp_path, **other)) == (0, {}, [])


@pytest.mark.parametrize("name", [HEAD, "checkpoint-2-rank-0.pt"])
def test_a_broken_file_begins_anew(tmp_path: Path, name: str) -> None:
    workspace(tmp_path).save(2, {}, {})
    path = tmp_path / "w" / name
    path.write_bytes(path.read_bytes()[:-20])
    assert restored(workspace(tmp_path)) == (0, {}, [])


def test_a_missing_state_begins_anew(tmp_path: Path) -> None:
    workspace(tmp_path).save(2, {}, {})
    (tmp_path / "w" / "checkpoint-2-rank-0.pt").unlink()
    assert restored(workspace(tmp_path)) == (0, {}, [])


def test_log_probs_are_computed_once_for_the_same_work(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> LogProbs:
        calls.append(1)
        return np.array([-1.5, -2.5], dtype=np.float32)

    for _ in range(2):
        assert workspace(tmp_path).log_probs(VERSION, 2, compute).tolist() == [-1.5, -2.5]
    assert len(calls) == 1
    workspace(tmp_path, work="other work").log_probs(VERSION, 2, compute)
    assert len(calls) == 2


def test_nothing_is_left_when_the_work_is_published(tmp_path: Path) -> None:
    workspace(tmp_path).save(2, {}, {})
    workspace(tmp_path).remove()
    assert not (tmp_path / "w").exists()
