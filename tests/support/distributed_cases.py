# torch, deepspeed and transformers are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Run by torchrun, one process a rank: every case trains a half-step of a store, and rank 0 writes down what it saw.

`python -m torch.distributed.run … -m tests.support.distributed_cases STORE CASES REPORT`, where CASES is a JSON file of
`Case`s. A start of torchrun and the imports behind it take longer than twenty of these trainings.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from structlog.testing import capture_logs
from torch import distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from services.trainer.checkpoints.workspace import Checkpoints
from services.trainer.errors import TrainingDivergedError
from services.trainer.forward.log_probs import canary_log_probs
from services.trainer.optimisation.half_step import Iteration, train
from services.trainer.optimisation.pairs import read_pairs
from services.trainer.optimisation.scoring import score
from services.trainer.optimisation.strategies import MakeStrategy, Strategy
from services.trainer.optimisation.strategies.fsdp2 import decoder_layers
from services.trainer.processes.rank_runner import make_runner
from services.trainer.ranks import Ranks
from services.trainer.settings import TrainerSettings
from shared.contracts.plans import PLAN, EvaluationPlan, HalfStepPlan
from shared.contracts.spec import TrainingSpec
from shared.contracts.work import WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore
from tests.support import tiny_models

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A half-step to train, and how. With `interrupt`, it is abandoned after its first checkpoint and begun again.

    An evaluation is scored; a training that diverges is reported with its message.
    """

    name: str
    run: str
    step: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    interrupt: bool = False


@dataclass(frozen=True)
class Seen:
    """Losses and gradient norms of the optimizer steps that were made; what is in slices; the weights' log-probs."""

    losses: list[float]
    grad_norms: list[float]
    metrics: dict[str, float]
    log_probs: list[list[float]]
    nature: dict[str, Any]
    layer_forwards: int
    resumed_at: int


class Interrupted(Exception):  # noqa: N818  (nothing is wrong)
    """The training was abandoned where it was asked to be."""


class Abandoning:
    """Checkpoints of a training that is abandoned right after the first of them."""

    def __init__(self, inner: Checkpoints) -> None:
        self._inner = inner
        self.log_probs = inner.log_probs
        self.restore = inner.restore
        self.remove = inner.remove

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        self._inner.save(step, state, metrics)
        raise Interrupted


def seen_in(
    iteration: Iteration,
    strategy: MakeStrategy,
    nature: Callable[[Strategy], dict[str, Any]] = lambda made: {},
) -> Seen | None:
    """Train, and say what happened; None on ranks other than 0."""
    made: list[Strategy] = []
    forwards: list[int] = []

    def count(*_: object) -> None:
        forwards.append(1)

    def spied(model: nn.Module, spec: TrainingSpec) -> Strategy:
        attention = decoder_layers(model)[0].get_submodule("self_attn")
        attention.register_forward_hook(count)
        made.append(strategy(model, spec))
        return made[0]

    with capture_logs() as lines:
        trained = train(replace(iteration, strategy=spied))
        whole, metrics = trained.policy, trained.metrics
    if whole is None:
        return None
    steps = [line for line in lines if line["event"] == "optimizer_step"]
    resumed = [line["step"] for line in lines if line["event"] == "checkpoint_restored"]
    return Seen(
        losses=[line["loss"] for line in steps],
        grad_norms=[line["grad_norm"] for line in steps],
        metrics=metrics,
        log_probs=canary_log_probs(whole, tiny_models.CANARY_SEQUENCES, CPU),
        nature=nature(made[0]),
        layer_forwards=len(forwards),
        resumed_at=resumed[0] if resumed else 0,
    )


def nature_of(strategy: Strategy) -> dict[str, Any]:
    """What is really in slices, by looking at parameters and at DeepSpeed's own optimizer."""
    policy: Any = strategy.policy
    if type(strategy).__name__ == "Fsdp2":
        parameters = list(policy.parameters())
        states = [value for state in policy_states(strategy) for value in state.values() if value.dim() > 0]
        return {
            "dtensors": all(isinstance(p, DTensor) for p in parameters),
            "optimizer_dtensors": all(isinstance(value, DTensor) for value in states),
            "share_held": sum(p.to_local().numel() for p in parameters) / sum(p.numel() for p in parameters),
        }
    optimizer = policy.optimizer
    sliced = [getattr(p, "ds_status", None) for p in policy.module.parameters()]
    return {
        "optimizer": type(optimizer).__name__,
        "gradients_sliced": bool(getattr(optimizer, "partition_gradients", False)),
        "parameters_sliced": [str(status) for status in sliced if status is not None],
        "share_held": held_by_deepspeed(optimizer) / sum(whole_size(p) for p in policy.module.parameters()),
        "autocast": policy.torch_autocast_enabled(),
        "offloaded": bool(getattr(optimizer, "offload_optimizer", getattr(optimizer, "cpu_offload", False))),
    }


def policy_states(strategy: Any) -> list[dict[str, torch.Tensor]]:
    """The optimizer's states as they live."""
    return list(strategy._optimizer.state.values())


def held_by_deepspeed(optimizer: Any) -> int:
    """Elements of the float32 weights that this rank's optimizer steps."""
    return sum(state["exp_avg"].numel() for state in optimizer.optimizer.state.values())


def whole_size(parameter: Any) -> int:
    """Elements of a parameter before slicing."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def main() -> None:
    """All cases, one after the other, in one process group."""
    store, cases, report = DirectoryStore(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    dist.init_process_group("gloo")
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    found: dict[str, Any] = {}
    for case in (Case(**case) for case in json.loads(cases.read_text())):
        found[case.name] = run_case(store, case, ranks)
        if ranks.first:
            report.write_text(json.dumps(found))
    dist.destroy_process_group()


def run_case(store: DirectoryStore, case: Case, ranks: Ranks) -> dict[str, Any] | None:
    """One case on this rank."""
    settings = TrainerSettings(trainer_device="cpu", trainer_num_processes=ranks.num, **case.settings)
    bench = make_runner(store, settings, ranks, CPU)
    item = WorkItem(kind="train", run=case.run, step=case.step)
    plan = PLAN.validate_json(store.read(layout.plan(item.step)))
    if isinstance(plan, EvaluationPlan):
        scores = score(store, item.step, plan, bench.policies.frozen, bench.compute)
        return {"log_ratios": scores.log_ratios}
    assert isinstance(plan, HalfStepPlan)
    checkpoints = bench.checkpoints(store.path(f"scratch/{case.name}"), "work")
    iteration = Iteration(plan, read_pairs(store, item.step, plan), bench.policies, checkpoints, bench.compute)
    if case.interrupt:
        try:
            train(replace(iteration, workspace=Abandoning(checkpoints), strategy=bench.strategy))
        except Interrupted:
            pass
        else:
            raise AssertionError(f"{case.name} was not interrupted")
    try:
        seen = seen_in(iteration, bench.strategy, nature_of)
    except TrainingDivergedError as error:
        return {"diverged": str(error)}
    return None if seen is None else asdict(seen)


if __name__ == "__main__":
    main()
