"""What holds a run up, for people who look at it."""

from typing import TypeVar

from shared.contracts.rest.runs import RunView
from shared.contracts.work import Attempt
from shared.store.queue.protocol import MAX_TRIES, Queue, QueueUnavailableError

ViewT = TypeVar("ViewT", bound=RunView)


def with_waiting(view: ViewT, queue: Queue) -> ViewT:
    """The view, saying for what its work waits or why it is tried again, and of how many items that is true.

    Unchanged where nothing is held up.
    """
    if view.state != "running":
        return view
    try:
        held_up = queue.waiting(view.id)
    except QueueUnavailableError as error:
        reason = f"waiting for Redis: {error}"
    else:
        if not held_up:
            return view
        more = f" (and {len(held_up) - 1} more shards)" if len(held_up) > 1 else ""
        reason = f"{_reason(held_up[0])}{more}"
    return view.model_copy(update={"progress": view.progress.model_copy(update={"waiting": reason})})


def _reason(history: Attempt) -> str:
    if history.waiting_for is not None:
        return history.waiting_for
    return f"{len(history.reasons)} of {MAX_TRIES} tries failed: {history.reasons[-1]}"
