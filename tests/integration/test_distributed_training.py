"""Training on two processes, FSDP2 and ZeRO: the single process's losses and weights, whatever happens on the way."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer.checkpoints.workspace import Workspace
from services.trainer.forward.log_probs import Compute
from services.trainer.optimisation.half_step import Iteration
from services.trainer.optimisation.pairs import read_pairs
from services.trainer.optimisation.strategies.single import SingleProcess
from services.trainer.weights.models import Policies
from shared.contracts.spec import TrainingSpec
from shared.contracts.work import WorkItem
from shared.store.artifacts.store import DirectoryStore
from tests.support import tiny_models
from tests.support.data import ROOT
from tests.support.distributed_cases import Case, Seen, seen_in
from tests.support.tiny_training import make_pairs, put_evaluation, put_half_step, read_plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("distributed")]

COMPUTE = Compute(torch.device("cpu"))
NUM_PROCESSES = 2
STRATEGIES: dict[str, dict[str, Any]] = {
    "fsdp2": {"trainer_strategy": "fsdp2"},
    "zero-1": {"trainer_strategy": "deepspeed", "trainer_zero_stage": 1},
    "zero-2": {"trainer_strategy": "deepspeed", "trainer_zero_stage": 2},
    "zero-3": {"trainer_strategy": "deepspeed", "trainer_zero_stage": 3},
}
BFLOAT16 = {"trainer_dtype": "bfloat16"}
CHECKPOINTING = {"trainer_gradient_checkpointing": True}
OFFLOAD = {"trainer_offload_optimizer": True, "trainer_offload_parameters": True}
NAMES = sorted(STRATEGIES)
# The two that also slice parameters.
SLICED = ["fsdp2", "zero-3"]
# Two steps an epoch: of 5 pairs, two forwards a rank with 2, 1, 1, 1 pairs; of 4 pairs, one forward a rank.
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


# The pairs' witness is float32's.
ROUGH = TIED.model_copy(update={"step_zero_tolerance": 0.1, "witness_tolerance": 0.1})


class World:
    """A store with half-steps of a tied and an untied model, each trained in one process."""

    def __init__(self, root: Path) -> None:
        self.store = DirectoryStore(root / "store")
        self.items = {
            "tied": self._half_step(root / "tied", 9, TIED, tied=True),
            "untied": self._half_step(root / "untied", 3, UNTIED, tied=False),
            "rough": self._half_step(root / "rough", 9, ROUGH, tied=True),
        }
        self.single = {name: self.train(item) for name, item in self.items.items()}
        # With eta = 1e-30 the target is 5e29, whose square is beyond float32.
        self.items["diverging"] = self._half_step(root / "diverging", 4, TIED, tied=True, scale=1e-30)
        base = tiny_models.publish(self.store, "scored", 0, root / "tied")
        other = tiny_models.perturb(root / "tied", root / "other", seed=2)
        version = tiny_models.publish(self.store, "scored", 1, other, base)
        self.items["scored"], scores = put_evaluation(self.store, version, base)
        self.scores = scores.log_ratios

    def _half_step(
        self, model: Path, num_pairs: int, training: TrainingSpec, *, tied: bool, scale: float = 0.5
    ) -> WorkItem:
        tiny_models.make_model(model, seed=1, tied=tied)
        base = tiny_models.publish(self.store, model.name, 0, model)
        return put_half_step(self.store, base, make_pairs(model, num_pairs, seed=1), training=training, scale=scale)

    def train(self, item: WorkItem) -> Seen:
        """In this process."""
        plan = read_plan(self.store, item)
        pairs = read_pairs(self.store, item.step, plan)
        policies = Policies(self.store, COMPUTE.device)
        workspace = Workspace(self.store.path(f"scratch/single-{item.run}"), "work")
        seen = seen_in(Iteration(plan, pairs, policies, workspace, COMPUTE), SingleProcess)
        assert seen is not None
        return seen

    def case(self, name: str, model: str, settings: dict[str, Any] | None = None, *, interrupt: bool = False) -> Case:
        """A way to train one of the half-steps in two processes."""
        return Case(name, self.items[model].run, self.items[model].step, settings or {}, interrupt)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("distributed"))


@pytest.fixture(scope="module")
def found(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What was seen in every case, all trained by one pair of processes, one case after the other."""
    cases: list[Case] = []
    for name, settings in STRATEGIES.items():
        cases += [
            world.case(f"{name} tied", "tied", settings),
            world.case(f"{name} untied", "untied", settings),
            world.case(f"{name} interrupted", "tied", settings, interrupt=True),
        ]
    cases += [world.case(f"{name} checkpointing", "tied", STRATEGIES[name] | CHECKPOINTING) for name in SLICED]
    cases += [world.case(f"{name} bfloat16", "rough", STRATEGIES[name] | BFLOAT16) for name in SLICED]
    cases += [world.case(f"{name} diverging", "diverging", settings) for name, settings in STRATEGIES.items()]
    cases.append(world.case("zero-3 offload", "tied", STRATEGIES["zero-3"] | OFFLOAD))
    cases.append(world.case("scored", "scored", STRATEGIES["fsdp2"]))
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
    return found


@pytest.fixture(scope="module")
def report(found: dict[str, dict[str, Any]]) -> dict[str, Seen]:
    """Of the cases that were trained to their end."""
    return {name: Seen(**seen) for name, seen in found.items() if "losses" in seen}


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


@pytest.mark.parametrize("name", NAMES)
def test_what_should_be_in_slices_is(report: dict[str, Seen], name: str) -> None:
    """FSDP2's parameters and optimizer states are DTensors; DeepSpeed's optimizer works at the stage asked for.

    At ZeRO-1 and 2 one class does both, told apart by whether it slices gradients; at 3 no parameter is at hand outside
    a forward. Everywhere a rank holds half of the numbers that are stepped, or a little more where slices are uneven.
    """
    nature = report[f"{name} tied"].nature
    assert nature["share_held"] == pytest.approx(0.5, abs=0.01)
    if name == "fsdp2":
        assert nature["dtensors"]
        assert nature["optimizer_dtensors"]
        return
    stage_3 = name == "zero-3"
    assert nature["optimizer"] == ("DeepSpeedZeroOptimizer_Stage3" if stage_3 else "DeepSpeedZeroOptimizer")
    assert nature["gradients_sliced"] is (name == "zero-2")
    assert set(nature["parameters_sliced"]) == ({"ZeroParamStatus.NOT_AVAILABLE"} if stage_3 else set[str]())


@pytest.mark.parametrize("name", NAMES)
def test_an_abandoned_training_goes_on_from_its_checkpoint(report: dict[str, Seen], name: str) -> None:
    """Abandoned after step 2 of 6 and begun again: the other four steps and the weights are the straight run's."""
    straight, resumed = report[f"{name} tied"], report[f"{name} interrupted"]
    assert resumed.resumed_at == 2
    assert resumed.losses == pytest.approx(straight.losses[2:], rel=0, abs=1e-6)
    for row, expected in zip(resumed.log_probs, straight.log_probs, strict=True):
        assert row == pytest.approx(expected, rel=0, abs=1e-6)
    assert resumed.metrics == pytest.approx(straight.metrics, rel=1e-6)


@pytest.mark.parametrize("name", SLICED)
def test_gradient_checkpointing_computes_layers_twice_and_the_same_losses(
    world: World, report: dict[str, Seen], name: str
) -> None:
    """Rank 0 has 11 forwards, 9 of them for a backward pass (2 + 1 an epoch), and those 9 are repeated: 20.

    Before the first step the canary's 18 sequences, both responses of 9 pairs, are read one by one.
    """
    assert_equal(report[f"{name} checkpointing"], world.single["tied"], 1e-4)
    assert report[f"{name} tied"].layer_forwards == 11 + 18
    assert report[f"{name} checkpointing"].layer_forwards == 20 + 18


@pytest.mark.parametrize("name", SLICED)
def test_bfloat16_stays_near_float32(world: World, report: dict[str, Seen], name: str) -> None:
    """With 8 bits of mantissa, an operation is off by up to 0.4 %: losses of about 1 by less than a tenth, but off.

    At step 0 theta is pi_t to the last bit, because both are computed alike.
    """
    found, expected = report[f"{name} bfloat16"], world.single["tied"]
    assert found.losses == pytest.approx(expected.losses, abs=0.1)
    assert found.losses != pytest.approx(expected.losses, abs=1e-4)
    assert found.metrics["step_zero_max_diff"] == 0.0


def test_offloading_changes_no_figure(world: World, report: dict[str, Seen]) -> None:
    """Optimizer states and parameters in host memory, stepped by torch's AdamW: nothing is compiled for it."""
    assert_equal(report["zero-3 offload"], world.single["tied"], 1e-4)
    assert report["zero-3 offload"].nature["offloaded"] is True


@pytest.mark.parametrize("name", NAMES)
def test_a_diverging_training_is_stopped_under_every_strategy(found: dict[str, dict[str, Any]], name: str) -> None:
    assert re.fullmatch(
        r"the (loss|gradient's norm) is .*: lower training\.learning_rate", found[f"{name} diverging"]["diverged"]
    )


def test_an_evaluation_is_scored_by_all_ranks_as_by_one(world: World, found: dict[str, dict[str, Any]]) -> None:
    """Each rank has a part of the responses; expected are plain forwards of whole models."""
    assert found["scored"]["log_ratios"] == pytest.approx(world.scores, abs=1e-4)
    assert max(abs(score) for score in world.scores) > 0.01
