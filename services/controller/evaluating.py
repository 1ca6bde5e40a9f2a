"""What an evaluation says of a weight version: from its rollouts, verdicts and reference scores."""

from collections.abc import Sequence

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
from shared.store import layout
from shared.store.artifacts import ArtifactStore, read_model
from shared.store.tables import read_table

NUM_SAMPLES = 4


def conclude(store: ArtifactStore, spec: EvaluationSpec, plan: EvaluationPlan) -> EvaluationResult:
    """The result of a complete evaluation; the same bytes whenever it is computed."""
    step = layout.evaluation(plan.run, plan.version.number)
    rollouts = _rollouts(store, plan, step)
    if plan.version.number == 0:
        win_rate, unjudged = None, 0.0
        kl = estimators.Interval(0.0, 0.0, 0.0, sum(len(rollout.responses) for rollout in rollouts))
    else:
        verdicts = _verdicts(store, plan, step)
        judged = [verdict for verdict in verdicts if verdict.probability is not None]
        win_rate = estimators.win_rate(
            [verdict.probability or 0.0 for verdict in judged], [verdict.prompt_id for verdict in judged]
        )
        unjudged = 1 - len(judged) / len(verdicts) if verdicts else 0.0
        log_ratios = read_model(store, layout.scores(step), ReferenceScores).log_ratios
        kl = estimators.kl_estimate(log_ratios, [r.prompt_id for r in rollouts for _ in r.responses])
    reference = _rollouts(store, plan, layout.evaluation(plan.run, 0))
    return EvaluationResult(
        version=plan.version,
        win_rate=None if win_rate is None else _estimate(win_rate),
        kl=_estimate(kl),
        unjudged_share=unjudged,
        samples=_samples(rollouts, reference),
        warnings=_warnings(spec, rollouts, reference, kl.mean),
        mean_response_tokens=_mean_tokens(rollouts),
        truncated_share=_truncated(rollouts),
        distinct_response_share=_distinct(rollouts),
    )


def _warnings(spec: EvaluationSpec, rollouts: Sequence[Rollout], reference: Sequence[Rollout], kl: float) -> list[str]:
    """Signs that the judge was hacked rather than pleased: a win rate alone never shows them."""
    warnings: list[str] = []
    if kl > spec.max_kl:
        warnings.append(
            f"reward hacking? KL to the reference is {kl:.0f} nats a response, evaluation.max_kl is {spec.max_kl:g}: "
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
