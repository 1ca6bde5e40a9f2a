"""What survives a crash in the middle of an iteration, and what is ignored."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.trainer.checkpoints.workspace import Workspace
from services.trainer.forward.log_probs import LogProbs
from shared.contracts.weights import WeightVersion

VERSION = WeightVersion(run="run", number=0, digest="ab" * 32, directory="nowhere")
VALUES = np.array([-1.5, -2.5], dtype=np.float32)


class Computation:
    """Counts how often the log-probs had to be computed."""

    def __init__(self) -> None:
        self.num = 0

    def __call__(self) -> LogProbs:
        self.num += 1
        return VALUES


def restored(workspace: Workspace) -> tuple[int, dict[str, float], list[dict[str, Any]]]:
    states: list[dict[str, Any]] = []
    step, metrics = workspace.restore(states.append)
    return step, metrics, states


def test_log_probs_are_computed_once_for_the_same_work(tmp_path: Path) -> None:
    computation = Computation()
    for _ in range(2):
        found = Workspace(tmp_path / "w", "work").log_probs(VERSION, 2, computation)
        assert found.tolist() == VALUES.tolist()
        assert found.dtype == np.float32
    assert computation.num == 1
    Workspace(tmp_path / "w", "other work").log_probs(VERSION, 2, computation)
    assert computation.num == 2


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04truncated"])
def test_broken_log_probs_are_computed_again(tmp_path: Path, content: bytes) -> None:
    computation = Computation()
    workspace = Workspace(tmp_path / "w", "work")
    workspace.log_probs(VERSION, 2, computation)
    (file,) = (tmp_path / "w").iterdir()
    file.write_bytes(content)
    assert workspace.log_probs(VERSION, 2, computation).tolist() == VALUES.tolist()
    assert computation.num == 2


def test_the_last_checkpoint_comes_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w", "work")
    assert restored(workspace) == (0, {}, [])
    for step in (2, 4):
        workspace.save(step, {"tensor": torch.full((3,), float(step))}, {"loss_first": 0.5})
    step, metrics, (state,) = restored(Workspace(tmp_path / "w", "work"))
    assert (step, metrics, state["tensor"].tolist()) == (4, {"loss_first": 0.5}, [4.0, 4.0, 4.0])
    assert [file.name for file in (tmp_path / "w").iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_other_work_is_ignored(tmp_path: Path) -> None:
    Workspace(tmp_path / "w", "work").save(2, {}, {})
    assert restored(Workspace(tmp_path / "w", "other work")) == (0, {}, [])


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_truncated_checkpoint_is_ignored(tmp_path: Path, kept: int) -> None:
    workspace = Workspace(tmp_path / "w", "work")
    workspace.save(2, {"tensor": torch.ones(100)}, {})
    file = tmp_path / "w" / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:kept])
    assert restored(workspace) == (0, {}, [])


def test_a_checkpoint_never_runs_code(tmp_path: Path) -> None:
    """A pickle that would create a file when it is loaded."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "evil",)

    workspace = Workspace(tmp_path / "w", "work")
    (tmp_path / "w").mkdir()
    torch.save({"work": "work", "step": 1, "state": Evil(), "metrics": {}}, tmp_path / "w" / "checkpoint.pt")
    assert restored(workspace) == (0, {}, [])
    assert not (tmp_path / "evil").exists()


def test_removing_leaves_nothing_and_may_be_done_twice(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w", "work")
    workspace.save(1, {}, {})
    workspace.remove()
    workspace.remove()
    assert not (tmp_path / "w").exists()
