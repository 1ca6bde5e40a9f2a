"""A trainer without torch: the next weights are a digest of the pairs. For fault tests."""

import hashlib
from typing import Any

from shared.contracts.plans import PLAN, BasePlan, EvaluationPlan
from shared.contracts.records import PublishedWeights, ReferenceScores, Rollout
from shared.contracts.work import Attempt, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.artifacts.tables import read_table
from shared.store.weights.store import weights_of


class StubTrainer:
    """Handles items of kind `train`."""

    def __init__(self, store: DirectoryStore, *_: object) -> None:
        self._store = store

    def __call__(self, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        plan = PLAN.validate_json(self._store.read(layout.plan(item.step)))
        if isinstance(plan, EvaluationPlan):
            self._score(item.step, plan)
        elif isinstance(plan, BasePlan):
            self._publish(item, 0, None, b"base")
        else:
            source = layout.pairs_step(plan)
            pairs = b"".join(self._store.read(layout.pairs(source, shard.index)) for shard in plan.shards)
            content = hashlib.sha256(plan.start_from.digest.encode() + pairs).digest()
            self._publish(item, plan.iteration, plan.start_from.digest, content, plan.makes_half)
        return {}

    def _score(self, step: str, plan: EvaluationPlan) -> None:
        rollouts = [
            rollout
            for shard in plan.shards
            for rollout in read_table(self._store, layout.rollouts(step, shard.index), Rollout)
        ]
        ratios = [0.0 for rollout in rollouts for _ in rollout.responses]
        create_model(self._store, layout.scores(step), ReferenceScores(log_ratios=ratios))

    def _publish(
        self, item: WorkItem, number: int, parent: str | None, content: bytes, half: int | None = None
    ) -> None:
        if self._store.exists(layout.published(item.step)):
            return
        candidate = weights_of(self._store).begin(item.run, number, half)
        (candidate.path / "model.safetensors").write_bytes(content)
        (candidate.path / "config.json").write_text("{}")
        version = weights_of(self._store).finish(candidate, parent=parent, num_parameters=1)
        create_model(self._store, layout.published(item.step), PublishedWeights(version=version))
