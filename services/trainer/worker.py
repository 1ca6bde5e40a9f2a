# torch and huggingface_hub are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The trainer's handler: does what the step's plan says, and keeps its models for the next item."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from services.trainer import publishing
from services.trainer.checkpoints import Checkpoints
from services.trainer.iteration import train_iteration
from services.trainer.log_probs import frozen_log_probs
from services.trainer.models import ModelError, Models
from services.trainer.sequences import Row, fitting
from services.trainer.settings import TrainerSettings
from shared.contracts.plans import PLAN, BasePlan, EvaluationPlan, HalfStepPlan
from shared.contracts.records import PreferencePair, PublishedWeights, ReferenceScores, Rollout
from shared.contracts.work import Attempt, WorkItem
from shared.runtime.telemetry import span
from shared.store import layout
from shared.store.artifacts import DirectoryStore, create_model
from shared.store.tables import read_skipped, read_table

SCORED_ROWS = 64


class NoPairsError(ValueError):
    """Nothing to train on; the message says what became of the responses."""


class TrainHandler:
    """Handles items of kind `train`: imports a base model, trains a half-step, or scores an evaluation.

    The step's result exists, durable, when a call returns; a result that exists is adopted without work.
    """

    def __init__(self, store: DirectoryStore, settings: TrainerSettings) -> None:
        self._store = store
        self._models = Models(store, settings)

    def __call__(self, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        """A summary for the event stream."""
        raw = self._store.read(layout.plan(item.step))
        plan = PLAN.validate_json(raw)
        if isinstance(plan, EvaluationPlan):
            return self._score(item.step, plan)
        result = publishing.published(self._store, item.step)
        if result is None:
            digest = hashlib.sha256(raw).hexdigest()
            result = (
                self._import(item.step, plan) if isinstance(plan, BasePlan) else self._train(item.step, plan, digest)
            )
        return {"version": result.version.model_dump(), "metrics": result.metrics}

    def _import(self, step: str, plan: BasePlan) -> PublishedWeights:
        source = local_model(plan.model.path, plan.model.revision)
        model = self._models.load_directory(source)
        candidate = publishing.Candidate(run=plan.run, number=0, model=model, source=source)
        result = publishing.publish(self._store, step, candidate, self._models.device)
        self._models.keep(result.version, model)
        return result

    def _train(self, step: str, plan: HalfStepPlan, digest: str) -> PublishedWeights:
        pairs, skipped = fitting(_read_pairs(self._store, step, plan), plan.training.max_pair_tokens)
        if not pairs:
            raise NoPairsError(_no_pairs(self._store, step, plan, len(skipped)))
        model = self._models.trainable(plan.start_from)
        before = publishing.canary_log_probs(model, self._models.device)
        checkpoints = Checkpoints(self._store.path(f"{layout.scratch(plan.run)}/{digest[:16]}"))
        metrics = train_iteration(plan, pairs, model, self._models, checkpoints)
        candidate = publishing.Candidate(
            run=plan.run,
            number=plan.iteration,
            model=model,
            source=self._models.directory(plan.start_from),
            parent=plan.start_from.digest,
            parent_log_probs=before,
            metrics=metrics,
            skipped=skipped,
        )
        result = publishing.publish(self._store, step, candidate, self._models.device)
        if result.metrics is metrics:
            self._models.keep(result.version, model)
        checkpoints.remove()
        return result

    def _score(self, step: str, plan: EvaluationPlan) -> dict[str, Any]:
        key = layout.scores(step)
        if not self._store.exists(key):
            rollouts = [
                rollout
                for shard in plan.shards
                for rollout in read_table(self._store, layout.rollouts(step, shard.index), Rollout)
            ]
            rows = [Row(rollout.prompt_ids, ids) for rollout in rollouts for ids in rollout.response_ids]
            sampled = torch.tensor([sum(values) for rollout in rollouts for values in rollout.log_probs])
            with span("score", run=plan.run, number=plan.version.number, num_responses=len(rows)):
                reference = frozen_log_probs(
                    self._models.frozen(plan.reference), rows, SCORED_ROWS, self._models.device
                )
            create_model(self._store, key, ReferenceScores(log_ratios=(sampled - reference).tolist()))
        return {"scored": plan.version.number}


def local_model(path: str, revision: str | None) -> Path:
    """The model's directory, fetched from the hub when `path` is no directory; `ModelError` when there is none."""
    directory = Path(path)
    if directory.is_dir():
        return directory
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only hub models need it)

    try:
        return Path(snapshot_download(path, revision=revision, ignore_patterns=["*.bin", "*.pth", "*.gguf"]))
    except (OSError, ValueError) as error:
        raise ModelError(f"model.path: {path} is no directory and cannot be fetched from the hub: {error}") from error


def _read_pairs(store: DirectoryStore, step: str, plan: HalfStepPlan) -> list[PreferencePair]:
    return [
        pair for shard in plan.shards for pair in read_table(store, layout.pairs(step, shard.index), PreferencePair)
    ]


def _no_pairs(store: DirectoryStore, step: str, plan: HalfStepPlan, over_long: int) -> str:
    counts: dict[str, int] = {"over-long": over_long} if over_long else {}
    for shard in plan.shards:
        for skipped in read_skipped(store, layout.pairs(step, shard.index), PreferencePair):
            counts[skipped.reason] = counts.get(skipped.reason, 0) + 1
        for skipped in read_skipped(store, layout.rollouts(step, shard.index), Rollout):
            reason = skipped.reason.partition(":")[0]
            counts[reason] = counts.get(reason, 0) + 1
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "there were no comparisons"
    return f"iteration {plan.iteration} has no preference pairs to train on: {reasons}"
