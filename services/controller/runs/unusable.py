"""How a run is shown whose record or artifacts cannot be used: with the reason, among the others."""

from services.controller.reconciling.faults import described
from services.controller.runs.ids import date_in, name_in
from shared.contracts.rest.runs import Progress, RunRecord, RunView


def unreadable_view(run: str, reason: str) -> RunView:
    """A run without a record: what its id says of it."""
    return RunView(
        id=run,
        name=name_in(run),
        state="unreadable",
        reason=reason,
        created_at=date_in(run),
        progress=Progress(iteration=1, num_iterations=1, phase="failed", done=0, total=1),
        weights=None,
        latest=None,
        num_prompts=0,
        num_skipped=0,
    )


def num_skipped(record: RunRecord) -> int:
    """How many rows were left out; an older release listed them all, and did not count them."""
    return len(record.skipped) if record.num_skipped is None else record.num_skipped


def broken_view(record: RunRecord, error: Exception) -> RunView:
    """A run whose artifacts are missing, torn or not understood."""
    return RunView(
        id=record.id,
        name=record.spec.name,
        state="failed",
        reason=f"the run's artifacts are broken: {described(error)}",
        created_at=record.created_at,
        progress=Progress(iteration=1, num_iterations=record.spec.iterations, phase="failed", done=0, total=1),
        weights=None,
        latest=None,
        num_prompts=record.num_prompts,
        num_skipped=num_skipped(record),
    )
