"""The duality gap of a weight version, from its evaluation's comparisons and scores."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.contracts.plans import EvaluationPlan, GapPlan
from shared.contracts.records import CrossComparison, DualityGap, Estimate, ReferenceScores, Rollout
from shared.contracts.weights import WeightVersion
from shared.inpo.estimators import Interval
from shared.inpo.gap_bound import Challenger, GapBound, gap_lower_bound
from shared.inpo.gap_estimate import Comparisons, GapEstimate, GapRefusal, duality_gap, sides
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, read_model
from shared.store.artifacts.tables import read_table

Vector = NDArray[np.float64]


def measure_gap(store: ArtifactStore, plan: EvaluationPlan, gap: GapPlan) -> DualityGap:
    """The estimate, or why there is none, and the lower bound, over the prompts that have been compared.

    Every evaluation that the plan names must be judged and scored.
    """
    step = layout.evaluation(plan.run, plan.version.number)
    rows = [
        row
        for shard in plan.shards
        for row in read_table(store, layout.comparisons(step, shard.index), CrossComparison)
    ]
    sample = _Sample(store, plan, rows)
    prompts = [sample.comparisons(prompt_id) for prompt_id in sample.prompt_ids]
    challengers = {f"version {version.number}": sample.challengers(version) for version in gap.earlier}
    tempered = plan.sampling.temperature != 1.0 or plan.sampling.top_p != 1.0
    if tempered and gap.tau > 0.0:
        reason = "sampled at another temperature or top-p than 1: the log-probs are not those of the sampled policy"
        found: GapEstimate | GapRefusal = GapRefusal(reason, None)
        bound = gap_lower_bound(prompts, 0.0, challengers)
    else:
        found = duality_gap(prompts, gap.tau)
        bound = gap_lower_bound(prompts, gap.tau, challengers)
    return _result(gap.tau, found, bound, rows, bounded=not tempered or gap.tau == 0.0)


def _result(
    tau: float,
    found: GapEstimate | GapRefusal,
    bound: GapBound | None,
    rows: Sequence[CrossComparison],
    *,
    bounded: bool,
) -> DualityGap:
    return DualityGap(
        tau=tau,
        estimate=_estimate(found.interval) if isinstance(found, GapEstimate) else None,
        refusal=found.reason if isinstance(found, GapRefusal) else None,
        effective_samples=found.effective_samples,
        lower_bound=None if bound is None or not bounded else _estimate(bound.gap),
        best_win_rate=None if bound is None else _estimate(bound.win_rate),
        found_by=None if bound is None else bound.found_by,
        num_comparisons=len(rows),
        num_unjudged=sum(row.probability is None for row in rows),
    )


class _Sample:
    """The version's and its opponents' responses to the prompts that they share, with what is known of them."""

    def __init__(self, store: ArtifactStore, plan: EvaluationPlan, rows: Iterable[CrossComparison]) -> None:
        self._store, self._plan = store, plan
        self._own = _scored(store, plan, plan.version)
        self._reference = _scored(store, plan, plan.reference)
        self._earlier: dict[int, dict[str, tuple[Rollout, Vector]]] = {}
        self._known: dict[tuple[str, int, str, str], float] = {}
        self.prompt_ids = [prompt_id for prompt_id in self._own if prompt_id in self._reference]
        for version in plan.duality_gap.earlier if plan.duality_gap is not None else []:
            self._earlier[version.number] = _scored(store, plan, version)
        for row in rows:
            own, other = self._own[row.prompt_id][0], self._of(row.opponent)[row.prompt_id][0]
            if row.probability is not None:
                self._known[row.prompt_id, row.opponent, own.responses[row.a], other.responses[row.b]] = row.probability

    def comparisons(self, prompt_id: str) -> Comparisons:
        """P(reference's response beats the version's), all against all."""
        own, log_ratios = self._own[prompt_id]
        reference, _ = self._reference[prompt_id]
        mine, theirs = sides(self._plan.num_responses, of_itself=self._plan.version == self._plan.reference)
        number = self._plan.reference.number
        losses = [[self._probability(own, a, number, reference, b) for a in mine] for b in theirs]
        return Comparisons(1.0 - np.array(losses), log_ratios[list(mine)])

    def challengers(self, version: WeightVersion) -> list[Challenger | None]:
        """The earlier version's responses to each prompt, None where it has none."""
        return [self._challenger(version.number, prompt_id) for prompt_id in self.prompt_ids]

    def _challenger(self, number: int, prompt_id: str) -> Challenger | None:
        if prompt_id not in self._earlier[number]:
            return None
        own, (other, log_ratios) = self._own[prompt_id][0], self._earlier[number][prompt_id]
        losses = [self._probability(own, j, number, other, j) for j in range(self._plan.num_responses)]
        return Challenger(1.0 - np.array(losses), log_ratios)

    def _of(self, number: int) -> dict[str, tuple[Rollout, Vector]]:
        return self._reference if number == self._plan.reference.number else self._earlier[number]

    def _probability(self, own: Rollout, a: int, number: int, other: Rollout, b: int) -> float:
        first, second = own.responses[a], other.responses[b]
        return 0.5 if first == second else self._known.get((own.prompt_id, number, first, second), np.nan)


def _scored(store: ArtifactStore, plan: EvaluationPlan, version: WeightVersion) -> dict[str, tuple[Rollout, Vector]]:
    """A version's rollouts by prompt, each with its responses' log-ratios to the reference."""
    step = layout.evaluation(plan.run, version.number)
    rollouts = [
        rollout for shard in plan.shards for rollout in read_table(store, layout.rollouts(step, shard.index), Rollout)
    ]
    if version == plan.reference:
        return {rollout.prompt_id: (rollout, np.zeros(len(rollout.responses))) for rollout in rollouts}
    log_ratios = iter(read_model(store, layout.scores(step), ReferenceScores).log_ratios)
    return {rollout.prompt_id: (rollout, _take(log_ratios, len(rollout.responses))) for rollout in rollouts}


def _take(values: Iterator[float], num: int) -> Vector:
    return np.array([next(values) for _ in range(num)])


def _estimate(interval: Interval) -> Estimate:
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high, num=interval.num)
