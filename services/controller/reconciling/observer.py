"""What the store and the queue hold of a run, as the reconciler wants it. Reads names, hardly ever contents."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from services.controller.reconciling.planning import num_half_steps
from services.controller.reconciling.reconciler import Evaluation, Observed, Step
from shared.contracts.plans import PLAN, BasePlan, EvaluationPlan, HalfStepPlan
from shared.contracts.records import Commit, DeadLetter, Intent, PublishedWeights, Verdict
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import Kind, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, read_model
from shared.store.artifacts.tables import read_table

_KINDS: tuple[Kind, ...] = ("generate", "judge", "train")


def observe(store: ArtifactStore, run: str, spec: RunSpec, outstanding: frozenset[str]) -> Observed:
    """The run as it stands now.

    `outstanding` must have been read before: what finishes meanwhile is then merely asked for twice.
    """
    iteration = num_committed(store, run) + 1
    halves = range(1, num_half_steps(spec, min(iteration, spec.iterations)) + 1)
    observed = Observed(
        run=run,
        intent=intent_in_force(store, run),
        base=_observe_step(store, layout.base(run)),
        iteration=iteration,
        half_steps=tuple(_observe_step(store, layout.half_step(run, iteration, half)) for half in halves),
        evaluations=_observe_evaluations(store, run, spec, iteration),
        outstanding=outstanding,
    )
    step = observed.half_step
    # Verdicts are counted when training is about to be asked for, not again on every look while it runs.
    asked = WorkItem(kind="train", run=run, step=step.key).id in outstanding
    due = step.all_judged and not step.trained and not asked
    if not due:
        return observed
    share, reason = unjudged(store, [step.key])
    return replace(observed, unjudged_share=share, unjudged_because=reason)


def num_committed(store: ArtifactStore, run: str) -> int:
    """How many iterations are committed; they are committed in order."""
    num = len(store.list(layout.iterations(run)))
    while num and not store.exists(layout.commit(run, num)):
        num -= 1
    return num


def intent_in_force(store: ArtifactStore, run: str) -> Intent | None:
    """The highest intent, None for a run that nobody touched."""
    names = store.list(layout.intents(run))
    return read_model(store, f"{layout.intents(run)}/{names[-1]}", Intent) if names else None


def committed_version(store: ArtifactStore, run: str, number: int) -> WeightVersion | None:
    """The weights of a version number: of the base import for 0, of the commit otherwise; None when not there yet."""
    if number == 0:
        key = layout.published(layout.base(run))
        return read_model(store, key, PublishedWeights).version if store.exists(key) else None
    key = layout.commit(run, number)
    return read_model(store, key, Commit).weights if store.exists(key) else None


def half_step_weights(store: ArtifactStore, run: str, iteration: int, half: int) -> WeightVersion | None:
    """What a half-step made, iterate or not; None when it is not there yet."""
    key = layout.published(layout.half_step(run, iteration, half))
    return read_model(store, key, PublishedWeights).version if store.exists(key) else None


def _observe_evaluations(store: ArtifactStore, run: str, spec: RunSpec, iteration: int) -> tuple[Evaluation, ...]:
    if spec.evaluation.num_prompts == 0:
        return ()
    evaluations: list[Evaluation] = []
    for version in range(iteration):
        key = layout.evaluation(run, version)
        concluded = store.exists(layout.result(key))
        # A concluded evaluation needs no more looking at, but for the reference's rollouts, which the others need.
        step = Step(key) if concluded and version > 0 else _observe_step(store, key)
        evaluations.append(Evaluation(version, step, concluded))
    return tuple(evaluations)


def _observe_step(store: ArtifactStore, key: str) -> Step:
    if not store.exists(layout.plan(key)):
        return Step(key)
    plan = PLAN.validate_json(store.read(layout.plan(key)))
    result = layout.scores(key) if plan.type == "evaluation" else layout.published(key)
    return Step(
        key=key,
        planned=True,
        num_shards=_num_shards(plan),
        rollouts=_shards(store, f"{key}/rollouts"),
        judged=_shards(store, f"{key}/pairs" if plan.type == "half_step" else f"{key}/judgments"),
        trained=store.exists(result),
        dead=_dead(store, key),
    )


def _num_shards(plan: BasePlan | HalfStepPlan | EvaluationPlan) -> int:
    """Shards to generate and to judge: none where a half-step trains on another's pairs."""
    if isinstance(plan, BasePlan) or (isinstance(plan, HalfStepPlan) and plan.same_pairs_as is not None):
        return 0
    return len(plan.shards)


def unjudged(store: ArtifactStore, steps: Sequence[str]) -> tuple[float, str | None]:
    """Share of the steps' comparisons that ended without a verdict, and the commonest reason."""
    total, reasons = 0, Counter[str]()
    for step in steps:
        for shard in sorted(_shards(store, f"{step}/judgments")):
            verdicts = read_table(store, layout.judgments(step, shard), Verdict)
            total += len(verdicts)
            reasons.update(verdict.error or "no reason given" for verdict in verdicts if verdict.answer is None)
    if not reasons:
        return 0.0, None
    return reasons.total() / total, reasons.most_common(1)[0][0]


def _shards(store: ArtifactStore, folder: str) -> frozenset[int]:
    return frozenset(int(name.removesuffix(".parquet")) for name in store.list(folder))


def _dead(store: ArtifactStore, key: str) -> dict[tuple[Kind, int], str]:
    names = store.list(f"{key}/dead")
    return {
        (kind, int(name.removesuffix(".json").rpartition("-")[2])): _last_reason(store, f"{key}/dead/{name}")
        for kind in _KINDS
        for name in names
        if name.startswith(f"{kind}-")
    }


def _last_reason(store: ArtifactStore, key: str) -> str:
    reasons = read_model(store, key, DeadLetter).reasons
    return reasons[-1] if reasons else "no reason recorded"
