"""Performing the reconciler's actions: each creates an artifact exclusively or asks the queue, so twice is once."""

import time

from services.controller import evaluating, planning
from services.controller.observer import committed_version, unjudged_share
from services.controller.reconciler import (
    Action,
    Commit,
    Conclude,
    Fail,
    PlanBase,
    PlanEvaluation,
    PlanHalfStep,
    Submit,
)
from shared.contracts import records
from shared.contracts.plans import EvaluationPlan, HalfStepPlan
from shared.contracts.records import Intent, Prompt, PublishedWeights
from shared.contracts.runs import RunRecord
from shared.contracts.weights import WeightVersion
from shared.contracts.work import Event
from shared.runtime.telemetry import span
from shared.store import layout
from shared.store.artifacts import ArtifactStore, create_model, digest, read_model
from shared.store.queue import Queue
from shared.store.tables import num_rows, read_table


def perform(store: ArtifactStore, queue: Queue, record: RunRecord, action: Action) -> None:
    """Do one action; harmless when somebody has done it already."""
    run, spec = record.id, record.spec
    match action:
        case Submit(item):
            queue.submit(item)
        case PlanBase():
            create_model(store, layout.plan(layout.base(run)), planning.base_plan(run, spec))
        case PlanHalfStep(iteration, half):
            with span("plan", run=run, iteration=iteration):
                plan = planning.half_step_plan(run, spec, _prompts(store, run), _versions(store, run), iteration, half)
                create_model(store, layout.plan(layout.half_step(run, iteration, half)), plan)
        case PlanEvaluation(version):
            versions = _versions(store, run)
            earlier = [versions[number] for number in range(1, version)]
            plan = planning.evaluation_plan(run, spec, _prompts(store, run), versions[version], versions[0], earlier)
            create_model(store, layout.plan(layout.evaluation(run, version)), plan)
        case Commit(iteration):
            with span("commit", run=run, iteration=iteration):
                commit(store, run, iteration)
            queue.publish(Event(type="iteration_committed", run=run, data={"iteration": iteration}))
        case Conclude(version):
            step = layout.evaluation(run, version)
            plan = read_model(store, layout.plan(step), EvaluationPlan)
            create_model(store, layout.result(step), evaluating.conclude(store, spec.evaluation, plan))
            queue.publish(Event(type="evaluation_concluded", run=run, data={"version": version}))
        case Fail(reason):
            declare(store, queue, run, Intent(action="failed", reason=reason))
            queue.drop(run)


def declare(store: ArtifactStore, queue: Queue, run: str, intent: Intent) -> None:
    """Write the next intent of a run and tell everybody."""
    number = len(store.list(layout.intents(run))) + 1
    while not create_model(store, layout.intent(run, number), intent):
        number += 1
    queue.publish(Event(type="run_changed", run=run, data=intent.model_dump()))


def commit(store: ArtifactStore, run: str, iteration: int) -> None:
    """Write `commit.json`: the iteration happened, once, with these artifacts and these weights."""
    step = layout.half_step(run, iteration, 1)
    plan = read_model(store, layout.plan(step), HalfStepPlan)
    published = read_model(store, layout.published(step), PublishedWeights)
    folders = ("rollouts", "judgments", "pairs")
    keys = [f"{step}/{folder}/{shard.index:05d}.parquet" for folder in folders for shard in plan.shards]
    pairs = sum(num_rows(store, layout.pairs(step, shard.index)) for shard in plan.shards)
    proof = records.Commit(
        iteration=iteration,
        weights=published.version,
        num_pairs=pairs,
        digests={key: digest(store, key) for key in [layout.plan(step), *keys, layout.published(step)]},
        metrics={
            **published.metrics,
            "unjudged_share": unjudged_share(store, step),
            "seconds": time.time() - plan.planned_at_s,
        },
    )
    create_model(store, layout.commit(run, iteration), proof)


def _versions(store: ArtifactStore, run: str) -> dict[int, WeightVersion]:
    versions: dict[int, WeightVersion] = {}
    while (version := committed_version(store, run, len(versions))) is not None:
        versions[len(versions)] = version
    return versions


def _prompts(store: ArtifactStore, run: str) -> list[Prompt]:
    return read_table(store, layout.prompts(run), Prompt)
