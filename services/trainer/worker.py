"""Hop 7 of a prompt: the pairs of a step become the next weights. Also imports models and scores evaluations.

The process is persistent: the policy that it just trained is the policy that it trains next.
"""

import hashlib
import time
from typing import Any

import torch

from services.trainer.checkpoints import Workspace
from services.trainer.importing import import_model
from services.trainer.iteration import Iteration, train
from services.trainer.log_probs import Compute
from services.trainer.models import Policies
from services.trainer.pairs import read_pairs
from services.trainer.publishing import announce, publish
from services.trainer.scoring import score
from services.trainer.settings import TrainerSettings
from shared.contracts.plans import PLAN, BasePlan, EvaluationPlan, HalfStepPlan
from shared.contracts.records import PublishedWeights, ReferenceScores
from shared.contracts.work import Attempt, WorkItem
from shared.runtime.telemetry import span
from shared.store import layout
from shared.store.artifacts import DirectoryStore, create_model, read_model


class TrainHandler:
    """Handles items of kind `train`: the step's `weights.json` or `scores.json` is durable when a call returns.

    A step that has its result is adopted as it is. Whatever raises publishes nothing, and the item may be tried again:
    training goes on from its last checkpoint.
    """

    def __init__(self, store: DirectoryStore, settings: TrainerSettings) -> None:
        if settings.trainer_num_threads is not None:
            torch.set_num_threads(settings.trainer_num_threads)
        self._store = store
        dtype = torch.bfloat16 if settings.trainer_dtype == "bfloat16" else torch.float32
        self._compute = Compute(_device(settings.trainer_device), dtype)
        self._policies = Policies(store, self._compute.device)

    def __call__(self, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        """What the live events show of the step's result."""
        plan = PLAN.validate_json(self._store.read(layout.plan(item.step)))
        if isinstance(plan, EvaluationPlan):
            return self._score(item, plan)
        if self._store.exists(layout.published(item.step)):
            return _summary(read_model(self._store, layout.published(item.step), PublishedWeights), adopted=True)
        if isinstance(plan, BasePlan):
            return self._import(item, plan)
        return self._train(item, plan)

    def _import(self, item: WorkItem, plan: BasePlan) -> dict[str, Any]:
        with span("publish", run=item.run, step=item.step):
            version = import_model(self._store, item.run, plan.model, self._compute.device)
            published = announce(self._store, item.step, PublishedWeights(version=version))
        return _summary(published, adopted=published.version != version)

    def _train(self, item: WorkItem, plan: HalfStepPlan) -> dict[str, Any]:
        start = time.monotonic()
        pairs = read_pairs(self._store, layout.pairs_step(plan), plan)
        work = hashlib.sha256(self._store.read(layout.plan(item.step)) + pairs.digest().encode()).hexdigest()
        name = item.step.removeprefix(f"{layout.run(item.run)}/").replace("/", "-")
        workspace = Workspace(self._store.path(f"{layout.scratch(item.run)}/{name}"), work)
        policy, metrics = train(Iteration(plan, pairs, self._policies, workspace, self._compute))
        metrics["train_s"] = time.monotonic() - start
        with span("publish", run=item.run, step=item.step):
            version = publish(self._store, item.run, plan.iteration, policy, plan.start_from, plan.makes_half)
            candidate = PublishedWeights(version=version, metrics=metrics, skipped=pairs.skipped)
            published = announce(self._store, item.step, candidate)
        if published.version.digest == version.digest:
            self._policies.keep(published.version, policy)
        workspace.remove()
        return _summary(published, adopted=published.version != version)

    def _score(self, item: WorkItem, plan: EvaluationPlan) -> dict[str, Any]:
        key = layout.scores(item.step)
        adopted = self._store.exists(key)
        if not adopted:
            with span("score", run=item.run, step=item.step):
                scores = score(self._store, item.step, plan, self._policies.frozen, self._compute)
            adopted = not create_model(self._store, key, scores)
        return {"responses": len(read_model(self._store, key, ReferenceScores).log_ratios), "adopted": adopted}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _summary(published: PublishedWeights, *, adopted: bool) -> dict[str, Any]:
    return {"weights": str(published.version), **published.metrics, "adopted": adopted}
