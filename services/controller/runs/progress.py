"""How far a run has come, and what holds it up, for people who look at it."""

from typing import TypeVar

from services.controller.reconciling.reconciler import Observed
from shared.contracts.rest.runs import Phase, Progress, RunState, RunView
from shared.contracts.spec import RunSpec
from shared.contracts.work import Attempt
from shared.store.queue.protocol import MAX_TRIES, Queue, QueueUnavailableError

ViewT = TypeVar("ViewT", bound=RunView)


def with_waiting(view: ViewT, queue: Queue, reconciler: str | None = None) -> ViewT:
    """The view, saying for what its work waits or why it is tried again, and of how many items that is true.

    `reconciler` is what keeps the controller itself from going on. Unchanged where nothing is held up.
    """
    if view.state != "running":
        return view
    try:
        queue.check()
        reason = _held_up(queue.waiting(view.id), reconciler)
    except QueueUnavailableError as error:
        reason = f"waiting for Redis: {error}"
    if reason is None:
        return view
    return view.model_copy(update={"progress": view.progress.model_copy(update={"waiting": reason})})


def _held_up(histories: list[Attempt], reconciler: str | None) -> str | None:
    """Work that waits says it best; the controller's own trouble goes before tries that have failed."""
    if reconciler is not None and not (histories and histories[0].waiting_for):
        return f"the controller waits: {reconciler}"
    if not histories:
        return None
    more = f" (and {len(histories) - 1} more shards)" if len(histories) > 1 else ""
    return f"{_reason(histories[0])}{more}"


def _reason(history: Attempt) -> str:
    if history.waiting_for is not None:
        return history.waiting_for
    return f"{len(history.reasons)} of {MAX_TRIES} tries failed: {history.reasons[-1]}"


def progress(spec: RunSpec, observed: Observed, state: RunState) -> Progress:
    """How much of what the run is about now is done."""
    phase, done, total = _phase(spec, observed, state)
    return Progress(
        iteration=min(observed.iteration, spec.iterations),
        num_iterations=spec.iterations,
        half=observed.half,
        num_halves=len(observed.half_steps),
        phase=phase,
        done=done,
        total=total,
        dead=sum(len(step.dead) for step in observed.steps),
    )


def _phase(spec: RunSpec, observed: Observed, state: RunState) -> tuple[Phase, int, int]:
    step = observed.half_step
    if state == "failed":
        return "failed", 0, 1
    if not observed.base.trained:
        return "preparing", 0, 1
    if observed.iteration > spec.iterations:
        concluded = sum(evaluation.concluded for evaluation in observed.evaluations)
        done = concluded == len(observed.evaluations)
        return ("committed" if done else "evaluating"), concluded, len(observed.evaluations)
    if not step.all_generated:
        return "generating", len(step.rollouts), step.num_shards
    if not step.all_judged:
        return "judging", len(step.judged), step.num_shards
    return ("publishing" if step.trained else "training"), int(step.trained), 1
