"""An evaluation's scores: how far the version's responses are from the reference policy."""

import numpy as np
from torch import nn

from services.trainer.log_probs import Compute, log_probs_of
from services.trainer.sequences import Sequences
from shared.contracts.plans import EvaluationPlan
from shared.contracts.records import ReferenceScores, Rollout
from shared.store import layout
from shared.store.artifacts import ArtifactStore, CorruptArtifactError
from shared.store.tables import read_table


def score(
    store: ArtifactStore, step: str, plan: EvaluationPlan, reference: nn.Module, compute: Compute
) -> ReferenceScores:
    """The log pi_t(y) - log pi_ref(y) of every response, in shard, rollout, response order.

    pi_t's log-probs are the sampler's, stored with the rollouts; the reference's are computed here.
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
        return ReferenceScores(log_ratios=[])
    sequences = Sequences((rollout.prompt_ids, ids) for rollout in rollouts for ids in rollout.response_ids)
    sampled = np.array([sum(log_probs) for rollout in rollouts for log_probs in rollout.log_probs])
    found = log_probs_of(reference, sequences, compute, name=str(plan.reference))
    return ReferenceScores(log_ratios=[float(value) for value in sampled - found])
