"""The queue and its dead letters as tables."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from services.cli.queue_admin import Dead
from shared.contracts.work import Attempt, Kind, WorkItem
from shared.store.queue.protocol import Depth

_SHOWN = 50


def depths_table(depths: Mapping[Kind, Depth]) -> Table:
    """One row a kind of work."""
    table = _table("work", "waiting", "in flight", "delayed", "oldest")
    for kind, depth in depths.items():
        age = f"{depth.oldest_s:.0f} s" if depth.waiting + depth.in_flight + depth.delayed else ""
        table.add_row(kind, str(depth.waiting), str(depth.in_flight), str(depth.delayed), age)
    return table


def items_table(items: Mapping[Kind, Sequence[tuple[WorkItem, Attempt]]]) -> Table:
    """One row an outstanding item, the first `_SHOWN` of each kind."""
    table = _table("item", "try", "deferred", "last reason")
    for kind, found in items.items():
        for item, attempt in found[:_SHOWN]:
            reason = attempt.waiting_for or (attempt.reasons[-1] if attempt.reasons else "")
            table.add_row(Text(item.id), str(attempt.number), str(attempt.deferrals + attempt.waits), Text(reason))
        if len(found) > _SHOWN:
            table.add_row(f"… and {len(found) - _SHOWN} more to {kind}")
    return table


def dead_table(dead: Sequence[Dead]) -> Table:
    """One row a dead letter; a reason that repeats is said once."""
    table = _table("run", "item", "tries", "reasons")
    for found in dead:
        reasons = "\n".join(dict.fromkeys(found.letter.reasons))
        item = found.letter.item.removeprefix(f"runs/{found.run}/")
        table.add_row(Text(found.run), Text(item), str(found.letter.attempts), Text(reasons))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    return table
