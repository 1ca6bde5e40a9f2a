"""What holds a run up from outside, for people who look at it."""

from shared.contracts.rest.runs import RunDetail
from shared.store.queue.protocol import Queue, QueueUnavailableError


def with_waiting(view: RunDetail, queue: Queue) -> RunDetail:
    """The view, saying for what its work waits, and how many items do. Unchanged where nothing waits."""
    if view.state != "running":
        return view
    try:
        waiting = queue.waiting(view.id)
    except QueueUnavailableError as error:
        reason = f"waiting for Redis: {error}"
    else:
        if not waiting:
            return view
        more = f" (and {len(waiting) - 1} more shards)" if len(waiting) > 1 else ""
        reason = f"{waiting[0].waiting_for}{more}"
    return view.model_copy(update={"progress": view.progress.model_copy(update={"waiting": reason})})
