"""Hop 7 of a prompt: the pairs of a step become the next weights. Also imports models and scores evaluations.

A single process is persistent: the policy that it just trained is the policy that it trains next. A process group is
started for each item and ended with it.
"""

from typing import Any, Protocol

import structlog
import torch

from services.trainer.checkpoints.workspace import Workspace
from services.trainer.devices import device_named, dtype_of
from services.trainer.errors import ModelImportError
from services.trainer.forward.log_probs import Compute
from services.trainer.optimisation.strategies import recompute_activations
from services.trainer.optimisation.strategies.single import SingleProcess
from services.trainer.processes.group import ProcessGroup
from services.trainer.settings import TrainerSettings
from services.trainer.step_runner import StepRunner, Summary, scored, summary
from services.trainer.weights.importing import import_model
from services.trainer.weights.models import Policies
from services.trainer.weights.publishing import announce
from shared.contracts.plans import BasePlan, EvaluationPlan, HalfStepPlan
from shared.contracts.records import PublishedWeights
from shared.contracts.spec import TrainingSpec
from shared.contracts.work import Attempt, WorkItem
from shared.runtime.device_lock import DeviceLock
from shared.runtime.opening import local_folder
from shared.runtime.reach import Reach
from shared.runtime.telemetry import span
from shared.store.artifacts import layout
from shared.store.artifacts.runs import read_plan
from shared.store.artifacts.store import ArtifactStore, DirectoryStore, read_model
from shared.store.weights.collecting import collect_run

log = structlog.get_logger(__name__)


class Runner(Protocol):
    """Who trains and scores: `StepRunner` in this process, or `ProcessGroup` in others."""

    def train(self, item: WorkItem, plan: HalfStepPlan) -> Summary:
        """The step's `weights.json` is durable when this returns."""
        ...

    def score(self, item: WorkItem, plan: EvaluationPlan) -> Summary:
        """The step's `scores.json` is durable when this returns."""
        ...


class TrainHandler:
    """Handles items of kind `train`: the step's `weights.json` or `scores.json` is durable when a call returns.

    A step that has its result is adopted as it is. Whatever raises publishes nothing, and the item may be tried again:
    training goes on from its last checkpoint.
    """

    def __init__(self, store: ArtifactStore, settings: TrainerSettings) -> None:
        if settings.trainer_num_threads is not None:
            torch.set_num_threads(settings.trainer_num_threads)
        self._store = store
        self._reach = Reach.of(settings, keyed=False)
        self._lock = DeviceLock(settings.device_lock)
        self._runner: Runner
        if settings.trainer_strategy == "single":
            self._device = device_named(settings.trainer_device)
            self._runner = in_this_process(store, settings, self._device)
        else:
            # The devices are the group's while it lives, and nobody's between two items.
            self._device = torch.device("cpu")
            self._runner = ProcessGroup(store, settings)

    def __call__(self, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        """What the live events show of the step's result."""
        plan = read_plan(self._store, item.step)
        if isinstance(plan, EvaluationPlan):
            if self._store.exists(layout.scores(item.step)):
                return scored(self._store, item, adopted=True)
        elif self._store.exists(layout.published(item.step)):
            return summary(read_model(self._store, layout.published(item.step), PublishedWeights), adopted=True)
        _make_room(self._store, item.run)
        return self._on_the_device(item, plan)

    def _on_the_device(self, item: WorkItem, plan: BasePlan | EvaluationPlan | HalfStepPlan) -> Summary:
        """Everything that touches a device goes through here, one at a time with whoever shares it."""
        if isinstance(plan, BasePlan):
            return self._import(item, plan)
        with self._lock.held():
            if isinstance(plan, EvaluationPlan):
                return self._runner.score(item, plan)
            return self._runner.train(item, plan)

    def _import(self, item: WorkItem, plan: BasePlan) -> Summary:
        try:
            # Again, and where it is read: a link may lead elsewhere now.
            self._reach.check(plan.model.path, hub=True)
        except ValueError as error:
            raise ModelImportError(f"model.path: {error}") from None
        with span("publish", run=item.run, step=item.step):
            version = import_model(self._store, item.run, plan.model, self._device)
            published = announce(self._store, item.step, PublishedWeights(version=version))
        return summary(published, adopted=published.version != version)


def _make_room(store: ArtifactStore, run: str) -> None:
    """Before weights are written: what tries before this one left behind. That nothing can be removed fails no work."""
    if not isinstance(store, DirectoryStore):
        return  # what lies in a bucket unused is its lifecycle rules' affair
    try:
        gone = collect_run(store, run)
    except (OSError, ValueError) as error:
        log.warning("nothing_collected", run=run, reason=repr(error))
    else:
        if gone:
            log.info("collected", run=run, folders=gone)


def in_this_process(store: ArtifactStore, settings: TrainerSettings, device: torch.device) -> StepRunner:
    """One process, one device, which keeps its models from one item to the next."""
    policies = Policies(store, device)

    def strategy(model: torch.nn.Module, spec: TrainingSpec) -> SingleProcess:
        if settings.trainer_gradient_checkpointing:
            recompute_activations(model)
        return SingleProcess(model, spec)

    compute = Compute(device, dtype_of(settings))
    return StepRunner(store, local_folder(store, settings), compute, policies, strategy, Workspace, keep=policies.keep)
