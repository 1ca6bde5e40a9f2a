"""Work items of a run that nobody made."""

from shared.contracts.work import Event, Kind, WorkItem
from shared.store.artifacts import layout

RUN = "toy-0001"
STEP = layout.half_step(RUN, 1, 1)


def work_item(shard: int = 0, kind: Kind = "generate", run: str = RUN) -> WorkItem:
    """Generate shard 0 of the first half-step, unless told otherwise."""
    return WorkItem(kind=kind, run=run, step=layout.half_step(run, 1, 1), shard=shard)


def done(item: WorkItem) -> Event:
    """What a worker publishes when it has finished."""
    return Event(type="item_done", run=item.run, data={"item": item.id})
