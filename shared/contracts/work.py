"""Work items and events: the only things that travel through Redis. Small, JSON, without payloads."""

from typing import Any, Literal

from pydantic import Field

from shared.contracts.base import Fact

Kind = Literal["generate", "judge", "train"]


class WorkItem(Fact):
    """One unit of work, produced by the controller, consumed by the worker of its kind.

    `generate` and `judge` work on one shard of a step; `train` on a whole step, doing what the step's plan says:
    import the base model, train a half-step, or score an evaluation.
    """

    kind: Kind
    run: str
    step: str = Field(description="key of the step's folder in the artifact store; it holds plan.json")
    shard: int = Field(default=0, ge=0)

    @property
    def id(self) -> str:
        """The same for the same work, so that asking twice is asking once."""
        return item_id(self.step, self.kind, self.shard)


def item_id(step: str, kind: Kind, shard: int = 0) -> str:
    """The id of a work item that need not be made to be looked for."""
    return f"{step}:{kind}:{shard:05d}"


class Attempt(Fact):
    """What the queue knows of an item's history when it hands it out."""

    number: int = Field(ge=1, description="1 for the first try")
    deferrals: int = Field(
        default=0, ge=0, description="times the item was handed back because something outside failed on it"
    )
    waits: int = Field(
        default=0, ge=0, description="times in a row it was handed back because something outside was unavailable"
    )
    waiting_for: str | None = Field(
        default=None, description="what was unavailable the last time; null when it was not"
    )
    waiting_since_s: float | None = Field(default=None, description="when that began, in seconds of the queue's clock")
    waited_s: float = Field(default=0.0, ge=0.0, description="how long ago that was when the item was claimed")
    progress: int = Field(default=0, ge=0, description="the handler's own measure; waiting begins anew when it grows")
    reasons: list[str] = Field(default_factory=list, description="why earlier tries failed")


class Event(Fact):
    """A line of the live event stream: produced by queue and controller, consumed by the reconciler and `/events`."""

    type: str = Field(description="e.g. item_done, item_retried, item_dead, run_changed, iteration_committed")
    run: str
    data: dict[str, Any] = Field(default_factory=dict)
