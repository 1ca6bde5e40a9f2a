"""What is done with a train item, in whatever process: the pairs of a step become weights, rollouts become scores.

With several ranks all of them do it, and rank 0 publishes.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from services.trainer.checkpoints.workspace import Checkpoints
from services.trainer.forward.log_probs import Compute
from services.trainer.optimisation.half_step import Iteration, train
from services.trainer.optimisation.pairs import read_pairs
from services.trainer.optimisation.scoring import score
from services.trainer.optimisation.strategies import MakeStrategy
from services.trainer.weights.models import PolicySource
from services.trainer.weights.publishing import announce, publish
from shared.contracts.plans import EvaluationPlan, HalfStepPlan
from shared.contracts.records import PublishedWeights, ReferenceScores
from shared.contracts.weights import WeightVersion
from shared.contracts.work import WorkItem
from shared.runtime.telemetry import span
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, create_model, read_model

Summary = dict[str, Any]


def nothing_to_keep(version: WeightVersion, policy: nn.Module) -> None:
    """For a process that ends with its item."""
    del version, policy


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Store, folder for checkpoints, models and ways to compute.

    Summaries are what the live events show; empty on ranks other than 0.
    """

    store: ArtifactStore
    scratch: Path
    compute: Compute
    policies: PolicySource
    strategy: MakeStrategy
    checkpoints: Callable[[Path, str], Checkpoints]
    keep: Callable[[WeightVersion, nn.Module], None] = nothing_to_keep

    def train(self, item: WorkItem, plan: HalfStepPlan) -> Summary:
        """The step's `weights.json` is durable when this returns on rank 0; going on from the last checkpoint."""
        start = time.monotonic()
        pairs = read_pairs(self.store, layout.pairs_step(plan), plan)
        work = hashlib.sha256(self.store.read(layout.plan(item.step)) + pairs.digest().encode()).hexdigest()
        checkpoints = self.checkpoints(self.scratch / layout.workspace(item.run, item.step), work)
        trained = train(Iteration(plan, pairs, self.policies, checkpoints, self.compute, self.strategy))
        policy = trained.policy
        if policy is None:
            return {}
        metrics = {**trained.metrics, "train_s": time.monotonic() - start}
        with span("publish", run=item.run, step=item.step):
            version = publish(
                self.store, item.run, plan.iteration, policy, plan.start_from, trained.canary, plan.makes_half
            )
            candidate = PublishedWeights(version=version, metrics=metrics, skipped=pairs.skipped)
            published = announce(self.store, item.step, candidate)
        if published.version.digest == version.digest:
            self.keep(published.version, policy)
        checkpoints.remove()
        return summary(published, adopted=published.version != version)

    def score(self, item: WorkItem, plan: EvaluationPlan) -> Summary:
        """The step's `scores.json` is durable when this returns on rank 0."""
        with span("score", run=item.run, step=item.step):
            scores = score(self.store, item.step, plan, self.policies.frozen, self.compute)
        if not self.compute.ranks.first:
            return {}
        adopted = not create_model(self.store, layout.scores(item.step), scores)
        return scored(self.store, item, adopted=adopted)


def summary(published: PublishedWeights, *, adopted: bool) -> Summary:
    """Of a step that has its weights."""
    return {"weights": str(published.version), **published.metrics, "adopted": adopted}


def scored(store: ArtifactStore, item: WorkItem, *, adopted: bool) -> Summary:
    """Of an evaluation that has its scores."""
    found = read_model(store, layout.scores(item.step), ReferenceScores)
    return {"responses": len(found.log_ratios), "adopted": adopted}
