"""Training on two processes, FSDP2 and ZeRO: the single process's losses and weights, whatever happens on the way."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from services.trainer.checkpoints import Workspace
from services.trainer.iteration import Iteration
from services.trainer.log_probs import Compute
from services.trainer.models import Policies
from services.trainer.pairs import read_pairs
from services.trainer.strategies.single import SingleProcess
from shared.contracts.spec import TrainingSpec
from shared.contracts.work import WorkItem
from shared.store.artifacts import DirectoryStore
from tests.support import tiny_models
from tests.support.data import ROOT
from tests.support.distributed_cases import Case, Seen, seen_in
from tests.support.tiny_training import make_pairs, put_half_step, read_plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("distributed")]

COMPUTE = Compute(torch.device("cpu"))
NUM_PROCESSES = 2
STRATEGIES = {
    "fsdp2": {"trainer_strategy": "fsdp2"},
    "zero-1": {"trainer_strategy": "deepspeed", "trainer_zero_stage": 1},
    "zero-2": {"trainer_strategy": "deepspeed", "trainer_zero_stage": 2},
    "zero-3": {"trainer_strategy": "deepspeed", "trainer_zero_stage": 3},
}
BFLOAT16 = {"trainer_dtype": "bfloat16"}
CHECKPOINTING = {"trainer_gradient_checkpointing": True}
OFFLOAD = {"trainer_offload_optimizer": True, "trainer_offload_parameters": True}
NAMES = sorted(STRATEGIES)
# Two steps an epoch, of 5 and 4 pairs: two forwards a rank, with 2, 1, 1, 1 and 1, 1, 1, 1 pairs.
TIED = TrainingSpec(
    learning_rate=3e-4,
    batch_size=5,
    micro_batch_size=2,
    num_epochs=3,
    checkpoint_every_steps=2,
    weight_decay=0.1,
    max_grad_norm=50.0,
    warmup_fraction=0.3,
)
# Two steps an epoch, of 2 and 1 pairs: at the second step rank 1 has none.
UNTIED = TIED.model_copy(update={"batch_size": 2})


class World:
    """A store with a half-step of a tied model and one of an untied model, both trained in one process."""

    def __init__(self, root: Path) -> None:
        self.store = DirectoryStore(root / "store")
        self.items = {
            "tied": self._half_step(root / "tied", 9, TIED, tied=True),
            "untied": self._half_step(root / "untied", 3, UNTIED, tied=False),
        }
        self.single = {name: self.train(item) for name, item in self.items.items()}

    def _half_step(self, model: Path, num_pairs: int, training: TrainingSpec, *, tied: bool) -> WorkItem:
        tiny_models.make_model(model, seed=1, tied=tied)
        base = tiny_models.publish(self.store, model.name, 0, model)
        return put_half_step(self.store, base, make_pairs(model, num_pairs, seed=1), training=training)

    def train(self, item: WorkItem) -> Seen:
        """In this process."""
        plan = read_plan(self.store, item)
        pairs = read_pairs(self.store, item.step, plan)
        policies = Policies(self.store, COMPUTE.device)
        workspace = Workspace(self.store.path(f"scratch/single-{item.run}"), "work")
        seen = seen_in(Iteration(plan, pairs, policies, workspace, COMPUTE), SingleProcess)
        assert seen is not None
        return seen

    def case(self, name: str, model: str = "tied", *, interrupt: bool = False, **settings: object) -> Case:
        """A way to train one of the half-steps in two processes."""
        return Case(name, self.items[model].run, self.items[model].step, settings, interrupt)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("distributed"))


@pytest.fixture(scope="module")
def report(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """What was seen in every case, all trained by one pair of processes, one case after the other."""
    cases: list[Case] = []
    for name, settings in STRATEGIES.items():
        cases += [
            world.case(f"{name} tied", **settings),
            world.case(f"{name} untied", "untied", **settings),
            world.case(f"{name} interrupted", interrupt=True, **settings),
            world.case(f"{name} checkpointing", **settings, **CHECKPOINTING),
        ]
    cases += [world.case(f"{name} bfloat16", **STRATEGIES[name], **BFLOAT16) for name in ("fsdp2", "zero-3")]
    cases += [world.case(f"{name} offload", **STRATEGIES[name], **OFFLOAD) for name in ("fsdp2", "zero-3")]
    folder = tmp_path_factory.mktemp("report")
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))
    options = ["--standalone", f"--nproc-per-node={NUM_PROCESSES}", "-m", "tests.support.distributed_cases"]
    files = [str(world.store.root), str(folder / "cases.json"), str(folder / "report.json")]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, *files],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads((folder / "report.json").read_text())
    assert sorted(found) == sorted(case.name for case in cases)
    return {name: Seen(**seen) for name, seen in found.items()}


def assert_equal(found: Seen, expected: Seen, tolerance: float) -> None:
    """Every optimizer step's loss and gradient norm, and the log-probs of the trained weights."""
    assert len(found.losses) == len(expected.losses) == 6
    assert found.losses == pytest.approx(expected.losses, rel=0, abs=tolerance)
    assert found.grad_norms == pytest.approx(expected.grad_norms, rel=tolerance)
    for row, expected_row in zip(found.log_probs, expected.log_probs, strict=True):
        assert row == pytest.approx(expected_row, rel=0, abs=tolerance)


@pytest.mark.parametrize("model", ["tied", "untied"])
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one_does(world: World, report: dict[str, Seen], name: str, model: str) -> None:
    """Losses of all six optimizer steps and the trained weights agree to 1e-4, although shares are uneven.

    Training really changes the policy: its log-probs move by more than a hundred times the tolerance, and some
    gradients are clipped (their norm is above 50), some are not.
    """
    expected = world.single[model]
    assert_equal(report[f"{name} {model}"], expected, 1e-4)
    assert max(expected.losses) - min(expected.losses) > 0.01
    moved = expected.metrics["chosen_log_prob_shift"] - expected.metrics["rejected_log_prob_shift"]
    assert abs(moved) > 0.01
    assert min(expected.grad_norms) < 50.0 < max(expected.grad_norms)
