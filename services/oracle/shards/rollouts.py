"""Rollouts on their way in: nothing sampled by other weights, cut short or without numbers is ever judged."""

import math
from collections.abc import Sequence

from shared.contracts.plans import EvaluationPlan
from shared.contracts.records import Rollout
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, CorruptArtifactError
from shared.store.artifacts.tables import read_table


def read_rollouts(
    store: ArtifactStore, step: str, shard: int, *, versions: Sequence[WeightVersion], num_responses: int
) -> list[Rollout]:
    """The shard's rollouts, every one of `num_responses` responses, each sampled by one of `versions`.

    `MissingArtifactError` when they are not there, `CorruptArtifactError` naming what is wrong with them.
    """
    key = layout.rollouts(step, shard)
    rollouts = read_table(store, key, Rollout)
    seen: set[str] = set()
    for rollout in rollouts:
        fault = _fault(rollout, versions, num_responses)
        if fault is None and rollout.prompt_id in seen:
            fault = "occurs twice"
        if fault is not None:
            raise CorruptArtifactError(f"{key}: prompt {rollout.prompt_id} {fault}")
        seen.add(rollout.prompt_id)
    return rollouts


def evaluation_rollouts(
    store: ArtifactStore, plan: EvaluationPlan, version: WeightVersion, shard: int
) -> list[Rollout]:
    """A shard of what was sampled to evaluate one of the versions that the plan names; see `read_rollouts`."""
    step = layout.evaluation(plan.run, version.number)
    return read_rollouts(store, step, shard, versions=[version], num_responses=plan.num_responses)


def _fault(rollout: Rollout, versions: Sequence[WeightVersion], num_responses: int) -> str | None:
    allowed = {(version.number, version.digest) for version in versions}
    for number, digest in zip(rollout.versions, rollout.digests, strict=False):
        if (number, digest) not in allowed:
            return f"was sampled by v{number}@{digest[:12]}, not by {' or '.join(map(str, versions))}"
    columns = (rollout.responses, rollout.response_ids, rollout.log_probs, rollout.versions, rollout.digests)
    if {len(column) for column in columns} != {num_responses}:
        return f"has {len(rollout.responses)} responses, the plan says {num_responses}"
    for ids, log_probs in zip(rollout.response_ids, rollout.log_probs, strict=True):
        if len(ids) != len(log_probs):
            return f"has {len(log_probs)} log-probs for {len(ids)} tokens"
        if not all(math.isfinite(value) for value in log_probs):
            return "has a log-prob that is not finite"
    return None
