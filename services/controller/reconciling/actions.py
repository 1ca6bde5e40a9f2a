"""Performing the reconciler's actions: each creates an artifact exclusively or asks the queue, so twice is once."""

from services.controller.measuring import evaluating
from services.controller.prompts.listed import ListedPrompt
from services.controller.reconciling import plan_building
from services.controller.reconciling.committing import commit
from services.controller.reconciling.observer import committed_version, half_step_weights
from services.controller.reconciling.reconciler import (
    Action,
    Commit,
    Conclude,
    Fail,
    PlanBase,
    PlanEvaluation,
    PlanHalfStep,
    Submit,
)
from shared.contracts.plans import EvaluationPlan
from shared.contracts.records import Intent, Prompt
from shared.contracts.rest.runs import RunRecord
from shared.contracts.weights import WeightVersion, label
from shared.contracts.work import Event
from shared.inpo.plan import REFERENCE, Iterate
from shared.runtime.telemetry import span
from shared.store.artifacts import layout
from shared.store.artifacts.store import (
    ArtifactStore,
    CorruptArtifactError,
    MissingArtifactError,
    create_model,
    read_model,
)
from shared.store.artifacts.tables import read_columns
from shared.store.queue.protocol import Queue


def perform(store: ArtifactStore, queue: Queue, record: RunRecord, action: Action) -> None:
    """Do one action; harmless when somebody has done it already."""
    run, spec = record.id, record.spec
    match action:
        case Submit(item):
            queue.submit(item)
        case PlanBase():
            create_model(store, layout.plan(layout.base(run)), plan_building.base_plan(run, spec))
        case PlanHalfStep(iteration, half):
            with span("plan", run=run, iteration=iteration):
                plan = plan_building.half_step_plan(
                    run, spec, _prompts(store, run), _Weights(store, run), iteration, half
                )
                create_model(store, layout.plan(layout.half_step(run, iteration, half)), plan)
        case PlanEvaluation(version):
            weights = _Weights(store, run)
            measured, reference = weights(Iterate(version)), weights(REFERENCE)
            earlier = [weights(Iterate(number)) for number in range(1, version)]
            plan = plan_building.evaluation_plan(run, spec, _prompts(store, run), measured, reference, earlier)
            create_model(store, layout.plan(layout.evaluation(run, version)), plan)
        case Commit(iteration):
            with span("commit", run=run, iteration=iteration):
                commit(store, run, iteration, plan_building.num_half_steps(spec, iteration))
            queue.publish(Event(type="iteration_committed", run=run, data={"iteration": iteration}))
        case Conclude(version):
            step = layout.evaluation(run, version)
            plan = read_model(store, layout.plan(step), EvaluationPlan)
            create_model(store, layout.result(step), evaluating.conclude(store, spec.evaluation, plan))
            queue.publish(Event(type="evaluation_concluded", run=run, data={"version": version}))
        case Fail(reason, after):
            intent = Intent(action="failed", reason=reason)
            if declare(store, run, intent, after):
                announce(queue, run, intent)
                queue.drop(run)


def declare(store: ArtifactStore, run: str, intent: Intent, after: int) -> bool:
    """Write the intent that follows number `after`; False, with nothing changed, when somebody else's does already.

    `after` is read before the state that the intent is decided on: of two who decide on the same, one is refused.
    """
    return create_model(store, layout.intent(run, after + 1), intent)


def announce(queue: Queue, run: str, intent: Intent) -> None:
    """Tell everybody that the run has this intent."""
    queue.publish(Event(type="run_changed", run=run, data=intent.model_dump(exclude={"request"})))


def declared(store: ArtifactStore, run: str, request: str | None) -> bool:
    """Whether this request has written an intent of the run already."""
    names = store.list(layout.intents(run)) if request is not None else []
    return any(_asked_by(store, f"{layout.intents(run)}/{name}", request) for name in names)


def _asked_by(store: ArtifactStore, key: str, request: str | None) -> bool:
    """An intent that cannot be read is nobody's."""
    try:
        return read_model(store, key, Intent).request == request
    except (CorruptArtifactError, MissingArtifactError):
        return False


class _Weights:
    """See `plan_building.Weights`: looked up when a plan names them; `LookupError` for what is not there."""

    def __init__(self, store: ArtifactStore, run: str) -> None:
        self._store = store
        self._run = run

    def __call__(self, iterate: Iterate) -> WeightVersion:
        if iterate.half is None:
            version = committed_version(self._store, self._run, iterate.iteration)
        else:
            version = half_step_weights(self._store, self._run, iterate.iteration, iterate.half)
        if version is None:
            raise LookupError(f"run {self._run} has no weights {label(iterate.iteration, iterate.half)} yet")
        return version


def _prompts(store: ArtifactStore, run: str) -> list[ListedPrompt]:
    """Without their texts, which no plan holds."""
    rows = read_columns(store, layout.prompts(run), Prompt, ("prompt_id", "split", "set"))
    return [ListedPrompt(*row) for row in rows]
