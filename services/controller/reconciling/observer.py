"""What the store and the queue hold of a run, as the reconciler wants it. Reads names, hardly ever contents."""

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

from services.controller.reconciling.plan_building import num_half_steps
from services.controller.reconciling.reconciler import Evaluation, Observed, Step
from shared.contracts.records import Commit, DeadLetter, PublishedWeights, Verdict
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import Kind, item_id
from shared.store.artifacts import layout
from shared.store.artifacts.runs import intent_of, newest_intent, read_plan
from shared.store.artifacts.store import ArtifactStore, MissingArtifactError, read_model
from shared.store.artifacts.tables import decode, num_missing

_KINDS: tuple[Kind, ...] = ("generate", "judge", "train")
_RUNS_REMEMBERED = 256

Unjudged: TypeAlias = tuple[float, str | None]
"""Share of a step's comparisons without a verdict, and the commonest reason; None where all have one."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """What observation needs of a plan. Shards: none where a half-step trains on another's pairs."""

    type: str
    num_shards: int


@dataclass(slots=True)
class _Memory:
    """What cannot change any more in a run: plans, complete folders, concluded evaluations, counted verdicts."""

    plans: dict[str, _Planned] = field(default_factory=dict[str, _Planned])
    complete: set[str] = field(default_factory=set[str])
    concluded: set[str] = field(default_factory=set[str])
    unjudged: dict[str, Unjudged] = field(default_factory=dict[str, Unjudged])


class Observer:
    """Looks at runs, and remembers what cannot change any more: a look costs what is undone, not what is done.

    What it remembers may be lost at any time; an observer that has just begun sees the same. A new intent makes it
    forget the run: before a failed run is resumed, somebody may have mended its artifacts by hand. Threads may share
    one.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._memory = lru_cache(maxsize=_RUNS_REMEMBERED)(_memory_of)

    def observe(self, run: str, spec: RunSpec, outstanding: frozenset[str] | None = None) -> Observed:
        """The run as it stands now.

        `outstanding` must have been read before: what finishes meanwhile is then merely asked for twice. None is for
        those who only look: verdicts, which matter to the decision alone, are not counted for them.
        """
        number = newest_intent(self._store, run)
        memory = self._memory(run, number)
        iteration = num_committed(self._store, run) + 1
        halves = range(1, num_half_steps(spec, min(iteration, spec.iterations)) + 1)
        observed = Observed(
            run=run,
            intent=intent_of(self._store, run, number),
            intent_number=number,
            base=self._step(memory, layout.base(run)),
            iteration=iteration,
            half_steps=tuple(self._step(memory, layout.half_step(run, iteration, half)) for half in halves),
            evaluations=self._evaluations(memory, run, spec, iteration),
            outstanding=outstanding or frozenset(),
        )
        step = observed.half_step
        # Verdicts are counted when training is about to be asked for, not again on every look while it runs.
        asked = outstanding is None or item_id(step.key, "train") in outstanding
        due = step.all_judged and not step.trained and not asked
        if not due:
            return observed
        share, reason = self._unjudged(memory, step.key)
        return replace(observed, unjudged_share=share, unjudged_because=reason)

    def _evaluations(self, memory: _Memory, run: str, spec: RunSpec, iteration: int) -> tuple[Evaluation, ...]:
        versions = range(iteration) if spec.evaluation.num_prompts else ()
        return tuple(self._evaluation(memory, version, layout.evaluation(run, version)) for version in versions)

    def _evaluation(self, memory: _Memory, version: int, key: str) -> Evaluation:
        concluded = key in memory.concluded or self._store.exists(layout.result(key))
        if concluded:
            memory.concluded.add(key)
        # A concluded evaluation needs no more looking at, but for the reference's rollouts, which the others need.
        step = Step(key) if concluded and version > 0 else self._step(memory, key)
        return Evaluation(version, step, concluded)

    def _step(self, memory: _Memory, key: str) -> Step:
        plan = memory.plans.get(key) or _read_plan(self._store, key)
        if plan is None:
            return Step(key)
        memory.plans[key] = plan
        judged = f"{key}/pairs" if plan.type == "half_step" else f"{key}/judgments"
        result = layout.scores(key) if plan.type == "evaluation" else layout.published(key)
        return Step(
            key=key,
            planned=True,
            num_shards=plan.num_shards,
            rollouts=self._shards(memory, f"{key}/rollouts", plan.num_shards),
            judged=self._shards(memory, judged, plan.num_shards),
            trained=self._store.exists(result),
            dead=_dead(self._store, key),
        )

    def _shards(self, memory: _Memory, folder: str, num_shards: int) -> frozenset[int]:
        if folder in memory.complete:
            return _all_of(num_shards)
        found = _shards(self._store, folder)
        if found == _all_of(num_shards):
            memory.complete.add(folder)
        return found

    def _unjudged(self, memory: _Memory, key: str) -> Unjudged:
        if key not in memory.unjudged:
            memory.unjudged[key] = unjudged(self._store, key)
        return memory.unjudged[key]


def _memory_of(run: str, intent: int) -> _Memory:
    """An empty one for a run at its intent of this number."""
    del run, intent
    return _Memory()


@lru_cache(maxsize=64)
def _all_of(num_shards: int) -> frozenset[int]:
    return frozenset(range(num_shards))


def num_committed(store: ArtifactStore, run: str) -> int:
    """How many iterations are committed; they are committed in order."""
    num = len(store.list(layout.iterations(run)))
    while num and not store.exists(layout.commit(run, num)):
        num -= 1
    return num


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


def _read_plan(store: ArtifactStore, key: str) -> _Planned | None:
    try:
        plan = read_plan(store, key)
    except MissingArtifactError:
        return None
    if plan.type == "base" or (plan.type == "half_step" and plan.same_pairs_as is not None):
        return _Planned(plan.type, 0)
    return _Planned(plan.type, len(plan.shards))


def unjudged(store: ArtifactStore, step: str) -> Unjudged:
    """Share of a step's comparisons that ended without a verdict, and the commonest reason."""
    num_asked, reasons = 0, Counter[str]()
    for key in (f"{step}/judgments/{name}" for name in store.list(f"{step}/judgments")):
        data = store.read(key)
        unanswered, asked = num_unanswered(data, key)
        num_asked += asked
        if unanswered:
            verdicts = decode(Verdict, data, key)
            reasons.update(verdict.error or "no reason given" for verdict in verdicts if verdict.answer is None)
    if not reasons:
        return 0.0, None
    return reasons.total() / num_asked, reasons.most_common(1)[0][0]


def num_unanswered(verdicts: bytes, key: str) -> tuple[int, int]:
    """How many of how many verdicts of a table have no answer."""
    return num_missing(Verdict, "answer", verdicts, key)


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
