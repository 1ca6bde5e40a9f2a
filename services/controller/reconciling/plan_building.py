"""Plans from the spec and the committed weights: pure functions of what is stored."""

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from services.controller.prompts.listed import Listed, rows_of
from shared.contracts.plans import (
    AnchorWeights,
    BasePlan,
    EvaluationPlan,
    GapPlan,
    GeometricMixtureWeights,
    HalfStepPlan,
    MixtureWeights,
    Shard,
    UniformMixtureWeights,
)
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion
from shared.inpo.algorithms import algorithm_named
from shared.inpo.plan import REFERENCE, GeometricMixture, Iterate, IterationPlan, SamplingPolicy, UniformMixture
from shared.inpo.seeds import seed_of

Weights: TypeAlias = Callable[[Iterate], WeightVersion]
"""The run's published weights, iterates or what half-steps made on the way."""


def base_plan(run: str, spec: RunSpec) -> BasePlan:
    """Import the run's model as version 0."""
    return BasePlan(run=run, model=spec.model)


def iteration_plan(spec: RunSpec, iteration: int) -> IterationPlan:
    """The iteration as the run's algorithm has it."""
    return algorithm_named(spec.algorithm.name)(spec.algorithm.parameters(), iteration)


def num_half_steps(spec: RunSpec, iteration: int) -> int:
    """How many half-steps the iteration has."""
    return len(iteration_plan(spec, iteration).half_steps)


def half_step_plan(
    run: str, spec: RunSpec, prompts: Sequence[Listed], weights: Weights, iteration: int, half: int
) -> HalfStepPlan:
    """What one half-step samples, is anchored to and trains. All that it names must be published already."""
    steps = iteration_plan(spec, iteration).half_steps
    step = steps[half - 1]
    sample_from, mixture = _sampling(step.sample_from, weights)
    return HalfStepPlan(
        run=run,
        iteration=iteration,
        half=half,
        num_halves=len(steps),
        sample_from=sample_from,
        mixture=mixture,
        same_pairs_as=step.same_pairs_as,
        start_from=weights(step.start_from),
        reference=weights(REFERENCE),
        anchors=[AnchorWeights(version=weights(anchor.iterate), exponent=anchor.exponent) for anchor in step.anchors],
        loss=step.loss,
        scale=step.scale,
        win_rates=step.needs_win_rates,
        sampling=spec.sampling,
        prompt_format=spec.prompts.format,
        chat_template_kwargs=spec.prompts.chat_template_kwargs,
        max_prompt_tokens=spec.prompts.max_tokens,
        oracle=spec.oracle,
        selection=spec.selection,
        training=spec.training,
        shards=_shards(iteration_rows(spec, prompts, iteration), spec.shard_size),
        seed=spec.seed,
        planned_at_s=time.time(),
    )


def _sampling(policy: SamplingPolicy, weights: Weights) -> tuple[WeightVersion, MixtureWeights | None]:
    match policy:
        case Iterate():
            return weights(policy), None
        case UniformMixture():
            parts = [weights(iterate) for iterate in policy.iterates]
            return parts[0], UniformMixtureWeights(versions=parts)
        case GeometricMixture():
            return weights(policy.iterate), GeometricMixtureWeights(reference_exponent=policy.reference_exponent)


def evaluation_plan(
    run: str,
    spec: RunSpec,
    prompts: Sequence[Listed],
    version: WeightVersion,
    reference: WeightVersion,
    earlier: Sequence[WeightVersion] = (),
) -> EvaluationPlan:
    """Measure one weight version on the held-out prompts. `earlier` are the versions between reference and it."""
    return EvaluationPlan(
        run=run,
        version=version,
        reference=reference,
        sampling=spec.sampling,
        num_responses=spec.evaluation.num_responses,
        prompt_format=spec.prompts.format,
        chat_template_kwargs=spec.prompts.chat_template_kwargs,
        max_prompt_tokens=spec.prompts.max_tokens,
        oracle=spec.oracle,
        shards=_shards(rows_of(prompts, "held_out"), spec.shard_size),
        seed=spec.seed,
        previous=earlier[-1] if earlier else None,
        duality_gap=_gap_plan(spec, earlier),
    )


def _gap_plan(spec: RunSpec, earlier: Sequence[WeightVersion]) -> GapPlan | None:
    wanted = spec.evaluation.duality_gap
    if wanted is None:
        return None
    tau = spec.algorithm.tau if wanted.tau is None else wanted.tau
    newest = max(0, len(earlier) - wanted.num_earlier_versions)
    return GapPlan(tau=tau, earlier=list(earlier[newest:]))


def iteration_rows(spec: RunSpec, prompts: Sequence[Listed], iteration: int) -> list[int]:
    """Rows of the prompts of one iteration, each once.

    A shared set is walked in a seeded order, all of it before any prompt comes again; a new order each time round.
    """
    own_set = len(spec.prompts.sets) > 1
    rows = rows_of(prompts, "train", iteration - 1 if own_set else 0)
    wanted = spec.prompts.num_per_iteration or len(rows)
    end = wanted if own_set else iteration * wanted
    walk: list[int] = []
    while len(walk) < end:
        lap = len(walk) // len(rows)
        order = sorted(rows, key=lambda row, lap=lap: seed_of("order", spec.seed, lap, prompts[row].prompt_id))
        # An iteration that goes on into the next lap must not meet a prompt again that it has already had.
        begun = set(walk[len(walk) - len(walk) % wanted :])
        walk += sorted(order, key=lambda row: row in begun)
    return walk[end - wanted : end]


def _shards(rows: list[int], size: int) -> list[Shard]:
    return [
        Shard(index=index, prompts=rows[start : start + size]) for index, start in enumerate(range(0, len(rows), size))
    ]
