"""An evaluation's scores: how far the version's responses are from the reference policy."""

from collections.abc import Callable

import numpy as np
from torch import nn

from services.trainer.forward.log_probs import Compute, log_probs_of
from services.trainer.forward.sequences import Sequences
from shared.contracts.plans import EvaluationPlan
from shared.contracts.records import ReferenceScores, Rollout
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, CorruptArtifactError
from shared.store.artifacts.tables import read_table


def score(
    store: ArtifactStore,
    step: str,
    plan: EvaluationPlan,
    frozen: Callable[[WeightVersion], nn.Module],
    compute: Compute,
) -> ReferenceScores:
    """The log pi_t(y) - log pi_ref(y) of every response, in shard, rollout, response order, and to pi_{t-1} likewise.

    pi_t's log-probs are the sampler's, stored with the rollouts; the others' are computed here, by the `frozen` policy
    of their versions, one at a time.
    `CorruptArtifactError` for a rollout of another version.
    """
    rollouts = [
        rollout for shard in plan.shards for rollout in read_table(store, layout.rollouts(step, shard.index), Rollout)
    ]
    for rollout in rollouts:
        for number, digest in zip(rollout.versions, rollout.digests, strict=True):
            if digest != plan.version.digest:
                raise CorruptArtifactError(
                    f"{step}: the rollout of prompt {rollout.prompt_id} was sampled by version {number}"
                    f"@{digest[:12]}, the plan evaluates {plan.version}"
                )
    if not rollouts:
        return ReferenceScores(log_ratios=[], previous_log_ratios=None if plan.previous is None else [])
    sequences = Sequences((rollout.prompt_ids, ids) for rollout in rollouts for ids in rollout.response_ids)
    sampled = np.array([sum(log_probs) for rollout in rollouts for log_probs in rollout.log_probs])

    def log_ratios_to(version: WeightVersion) -> list[float]:
        found = log_probs_of(frozen(version), sequences, compute, name=str(version))
        return [float(value) for value in sampled - found]

    return ReferenceScores(
        log_ratios=log_ratios_to(plan.reference),
        previous_log_ratios=None if plan.previous is None else log_ratios_to(plan.previous),
    )
