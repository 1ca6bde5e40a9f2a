"""What an evaluation says of a weight version: from its rollouts, verdicts and reference scores."""

from collections.abc import Sequence

from services.controller.measuring.gap import measure_gap
from shared.contracts.plans import EvaluationPlan
from shared.contracts.records import (
    Estimate,
    EvaluationResult,
    ReferenceScores,
    Rollout,
    Sample,
    Verdict,
)
from shared.contracts.spec import EvaluationSpec
from shared.inpo import estimators
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, read_model
from shared.store.artifacts.tables import read_table

NUM_SAMPLES = 4


def conclude(store: ArtifactStore, spec: EvaluationSpec, plan: EvaluationPlan) -> EvaluationResult:
    """The result of a complete evaluation; the same bytes whenever it is computed."""
    step = layout.evaluation(plan.run, plan.version.number)
    rollouts = _rollouts(store, plan, step)
    verdicts = _verdicts(store, plan, step) if plan.version.number > 0 else []
    win_rate, unjudged = _win_rate(verdicts)
    kl = _kl(store, plan, step, rollouts)
    reference = _rollouts(store, plan, layout.evaluation(plan.run, 0))
    return EvaluationResult(
        version=plan.version,
        win_rate=win_rate,
        kl=kl,
        kl_to_previous=_kl_to_previous(store, plan, step, rollouts, kl),
        unjudged_share=unjudged,
        duality_gap=None if plan.duality_gap is None else measure_gap(store, plan, plan.duality_gap),
        samples=_samples(rollouts, reference),
        warnings=[*_silences(plan, rollouts, unjudged), *_warnings(spec, rollouts, reference, kl)],
        mean_response_tokens=_mean_tokens(rollouts),
        truncated_share=_truncated(rollouts),
        distinct_response_share=_distinct(rollouts),
    )


def _win_rate(verdicts: Sequence[Verdict]) -> tuple[Estimate | None, float]:
    """Mean probability and the share without one. Where nothing was judged there is no number, not one half."""
    judged = [(v.probability, v.prompt_id) for v in verdicts if v.probability is not None]
    if not judged:
        return None, 1.0 if verdicts else 0.0
    interval = estimators.win_rate([probability for probability, _ in judged], [prompt for _, prompt in judged])
    return _estimate(interval), 1 - len(judged) / len(verdicts)


def _kl(store: ArtifactStore, plan: EvaluationPlan, step: str, rollouts: Sequence[Rollout]) -> Estimate | None:
    prompts = [rollout.prompt_id for rollout in rollouts for _ in rollout.responses]
    if not prompts:
        return None
    if plan.version.number == 0:
        return Estimate(mean=0.0, low=0.0, high=0.0, num=len(prompts))
    return _estimate(
        estimators.kl_estimate(read_model(store, layout.scores(step), ReferenceScores).log_ratios, prompts)
    )


def _kl_to_previous(
    store: ArtifactStore, plan: EvaluationPlan, step: str, rollouts: Sequence[Rollout], kl: Estimate | None
) -> Estimate | None:
    """KL(pi_t || pi_{t-1}); of version 1 that is the KL to the reference, and the reference has none before it."""
    if plan.version.number <= 1 or kl is None:
        return kl if plan.version.number == 1 else None
    log_ratios = read_model(store, layout.scores(step), ReferenceScores).previous_log_ratios
    if log_ratios is None:
        return None
    prompts = [rollout.prompt_id for rollout in rollouts for _ in rollout.responses]
    return _estimate(estimators.kl_estimate(log_ratios, prompts))


def _silences(plan: EvaluationPlan, rollouts: Sequence[Rollout], unjudged: float) -> list[str]:
    """Why figures are missing, or rest on less than they should."""
    warnings: list[str] = []
    if not rollouts:
        warnings.append("nothing was measured: every held-out prompt was skipped")
    if unjudged > plan.oracle.max_unjudged:
        warnings.append(f"{unjudged:.0%} of the comparisons got no verdict, oracle.max_unjudged is lower")
    if plan.sampling.temperature != 1.0 or plan.sampling.top_p != 1.0:
        warnings.append("sampled at another temperature or top-p than 1: the KL is not that of the sampled policy")
    return warnings


def _warnings(
    spec: EvaluationSpec, rollouts: Sequence[Rollout], reference: Sequence[Rollout], kl: Estimate | None
) -> list[str]:
    """Signs that the judge was hacked rather than pleased: a win rate alone never shows them."""
    warnings: list[str] = []
    if kl is not None and kl.mean > spec.max_kl:
        warnings.append(
            f"reward hacking? KL to the reference is {kl.mean:.0f} nats a response, "
            f"evaluation.max_kl is {spec.max_kl:g}: "
            "read the samples before believing the win rate"
        )
    distinct, before = _distinct(rollouts), _distinct(reference)
    if distinct < before / 2:
        warnings.append(f"collapse? {distinct:.0%} of the responses are distinct, the reference's {before:.0%}")
    if _truncated(rollouts) > max(0.5, 2 * _truncated(reference)):
        warnings.append(f"{_truncated(rollouts):.0%} of the responses are cut at sampling.max_new_tokens")
    return warnings


def _rollouts(store: ArtifactStore, plan: EvaluationPlan, step: str) -> list[Rollout]:
    return [
        rollout for shard in plan.shards for rollout in read_table(store, layout.rollouts(step, shard.index), Rollout)
    ]


def _verdicts(store: ArtifactStore, plan: EvaluationPlan, step: str) -> list[Verdict]:
    return [
        verdict for shard in plan.shards for verdict in read_table(store, layout.judgments(step, shard.index), Verdict)
    ]


def _samples(rollouts: Sequence[Rollout], reference: Sequence[Rollout]) -> list[Sample]:
    before = {rollout.prompt_id: rollout.responses[0] for rollout in reference}
    return [
        Sample(
            prompt=rollout.prompt[-1].content,
            reference=before.get(rollout.prompt_id, ""),
            response=rollout.responses[0],
        )
        for rollout in rollouts[:NUM_SAMPLES]
    ]


def _estimate(interval: estimators.Interval) -> Estimate:
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high, num=interval.num)


def _num(rollouts: Sequence[Rollout]) -> int:
    return max(1, sum(len(rollout.responses) for rollout in rollouts))


def _mean_tokens(rollouts: Sequence[Rollout]) -> float:
    return sum(len(ids) for rollout in rollouts for ids in rollout.response_ids) / _num(rollouts)


def _truncated(rollouts: Sequence[Rollout]) -> float:
    cut = sum(reason == "length" for rollout in rollouts for reason in rollout.finish_reasons)
    return cut / _num(rollouts)


def _distinct(rollouts: Sequence[Rollout]) -> float:
    return len({tuple(ids) for rollout in rollouts for ids in rollout.response_ids}) / _num(rollouts)
