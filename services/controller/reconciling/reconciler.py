"""What should happen next in a run: a pure function of the spec and of what the store and the queue hold.

Level-triggered: it is asked at start, on every event and once a second, and needs no memory of its own. Whatever
crashed, was lost or happened twice, the next call does the right thing. The way of a prompt:

    base planned → base published → per iteration, its half-steps in turn: planned → generated → judged → trained
                                                     → all half-steps trained: committed
                                  → per weight version: evaluation planned → generated → judged, scored → concluded

Evaluation is off the critical path: the next iteration never waits for it, the run's success does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from shared.contracts.records import Intent
from shared.contracts.spec import RunSpec
from shared.contracts.work import Kind, WorkItem, item_id


@dataclass(frozen=True, slots=True)
class Step:
    """What the store holds of a step (a base import, a half-step, an evaluation)."""

    key: str
    planned: bool = False
    num_shards: int = 0
    rollouts: frozenset[int] = frozenset()
    judged: frozenset[int] = frozenset()
    trained: bool = False
    dead: Mapping[tuple[Kind, int], str] = field(default_factory=dict[tuple[Kind, int], str])

    @property
    def all_generated(self) -> bool:
        """Every shard has its rollouts."""
        return self.planned and len(self.rollouts) == self.num_shards

    @property
    def all_judged(self) -> bool:
        """Every shard has its pairs (in an evaluation: its verdicts)."""
        return self.planned and len(self.judged) == self.num_shards


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the store holds of the evaluation of one weight version."""

    version: int
    step: Step
    concluded: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that the decision depends on. `iteration` is the first one without a commit, with its half-steps."""

    run: str
    intent: Intent | None
    base: Step
    iteration: int
    half_steps: tuple[Step, ...]
    evaluations: tuple[Evaluation, ...]
    outstanding: frozenset[str]
    unjudged_share: float = 0.0
    unjudged_because: str | None = None
    intent_number: int = 0

    @property
    def half(self) -> int:
        """Number of the half-step that is being worked on: the first without weights, the last when all have them."""
        undone = (number for number, step in enumerate(self.half_steps, start=1) if not step.trained)
        return next(undone, len(self.half_steps))

    @property
    def half_step(self) -> Step:
        """The half-step that is being worked on."""
        return self.half_steps[self.half - 1]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in sight, each with what was given up in it."""
        return (self.base, *self.half_steps, *(evaluation.step for evaluation in self.evaluations))


@dataclass(frozen=True, slots=True)
class PlanBase:
    """Write the base step's plan."""


@dataclass(frozen=True, slots=True)
class PlanHalfStep:
    """Write the plan of a half-step of an iteration."""

    iteration: int
    half: int


@dataclass(frozen=True, slots=True)
class PlanEvaluation:
    """Write the plan of a weight version's evaluation."""

    version: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Ask the queue for work."""

    item: WorkItem


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Nothing to do but wait: the queue holds the work already."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit the iteration."""

    iteration: int


@dataclass(frozen=True, slots=True)
class Conclude:
    """Write an evaluation's result."""

    version: int


@dataclass(frozen=True, slots=True)
class Fail:
    """End the run, naming the reason, unless somebody wrote an intent after the one that this was decided on."""

    reason: str
    after: int = 0


UNDER_WAY = UnderWay()
Action: TypeAlias = PlanBase | PlanHalfStep | PlanEvaluation | Submit | Commit | Conclude | Fail


def next_actions(spec: RunSpec, observed: Observed) -> list[Action]:
    """The actions that are due now; each may be done twice without harm. Empty when there is nothing to do but wait."""
    if observed.intent is not None and observed.intent.action != "resume":
        return []
    due = list(_wanted(spec, observed))
    letters = _dead_letters(observed)
    if letters:
        due = [action for action in due if isinstance(action, Submit | UnderWay)]
    reason = _unjudged(spec, observed) or ("; ".join(letters) if letters and not due else None)
    if reason is not None:
        return [Fail(reason, observed.intent_number)]
    return [action for action in due if not isinstance(action, UnderWay)]


def succeeded(spec: RunSpec, observed: Observed) -> bool:
    """All iterations are committed and all their weights measured."""
    return observed.iteration > spec.iterations and all(evaluation.concluded for evaluation in observed.evaluations)


def _wanted(spec: RunSpec, observed: Observed) -> Iterator[Action | UnderWay]:
    base = observed.base
    if not base.planned:
        yield PlanBase()
    elif not base.trained:
        yield from _work(observed, base, "train")
    else:
        if observed.iteration <= spec.iterations:
            yield from _wanted_half_step(observed)
        for evaluation in observed.evaluations:
            yield from _wanted_evaluation(spec, observed, evaluation)


def _wanted_half_step(observed: Observed) -> Iterator[Action | UnderWay]:
    step = observed.half_step
    if not step.planned:
        yield PlanHalfStep(observed.iteration, observed.half)
    elif step.trained:
        yield Commit(observed.iteration)
    elif step.all_judged:
        yield from _work(observed, step, "train")
    else:
        yield from _shard_work(observed, step)


def _wanted_evaluation(spec: RunSpec, observed: Observed, evaluation: Evaluation) -> Iterator[Action | UnderWay]:
    """The reference policy is measured by its rollouts alone: against itself it wins one half, at KL 0.

    With the duality gap the reference's responses are judged, too, and a version waits for all that were before it: it
    meets their responses, and their scores tell how far they are from the reference.
    """
    step, crossed = evaluation.step, spec.evaluation.duality_gap is not None
    before = [other for other in observed.evaluations if other.version < evaluation.version]
    if evaluation.concluded:
        return
    if not step.planned:
        yield PlanEvaluation(evaluation.version)
    elif evaluation.version == 0:
        complete = step.all_judged if crossed else step.all_generated
        yield from _shard_work(observed, step, judge=crossed) if not complete else [Conclude(0)]
    elif step.all_judged and step.trained:
        if not crossed or all(other.concluded for other in before):
            yield Conclude(evaluation.version)
    else:
        needed = before if crossed else before[:1]
        yield from _shard_work(observed, step, judge=all(_has_rollouts(other) for other in needed))
        if step.all_generated and not step.trained:
            yield from _work(observed, step, "train")


def _has_rollouts(evaluation: Evaluation) -> bool:
    return evaluation.concluded or evaluation.step.all_generated


def _shard_work(observed: Observed, step: Step, *, judge: bool = True) -> Iterator[Submit | UnderWay]:
    """Generate what has no rollouts, judge what has: a shard is judged the moment that it exists."""
    for shard in range(step.num_shards):
        if shard not in step.rollouts:
            yield from _work(observed, step, "generate", shard)
        elif judge and shard not in step.judged:
            yield from _work(observed, step, "judge", shard)


def _work(observed: Observed, step: Step, kind: Kind, shard: int = 0) -> Iterator[Submit | UnderWay]:
    """Ask for it, unless that was done before; nothing for what was given up."""
    if (kind, shard) in step.dead:
        return
    if item_id(step.key, kind, shard) in observed.outstanding:
        yield UNDER_WAY
    else:
        yield Submit(WorkItem(kind=kind, run=observed.run, step=step.key, shard=shard))


def _unjudged(spec: RunSpec, observed: Observed) -> str | None:
    if observed.unjudged_share <= spec.oracle.max_unjudged:
        return None
    return (
        f"iteration {observed.iteration}: {observed.unjudged_share:.1%} of the comparisons got no verdict, "
        f"oracle.max_unjudged allows {spec.oracle.max_unjudged:.1%}; mostly: {observed.unjudged_because}; see "
        f"{observed.half_step.key}/judgments. Verdicts are facts and are not asked for again: mend the cause and "
        "create a new run"
    )


def _dead_letters(observed: Observed) -> list[str]:
    """What was given up and why. Once there is any, what is already planned is finished, nothing new is begun."""
    letters: dict[tuple[str, Kind, str], list[int]] = {}
    for step in observed.steps:
        for (kind, shard), reason in step.dead.items():
            letters.setdefault((step.key, kind, reason), []).append(shard)
    return [
        f"{key}: {kind} shard {', '.join(map(str, sorted(shards)))} given up: {reason}"
        for (key, kind, reason), shards in letters.items()
    ]
