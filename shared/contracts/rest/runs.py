"""REST bodies of the controller."""

from typing import Literal

from pydantic import Field

from shared.contracts.base import Fact
from shared.contracts.records import Commit, EvaluationResult, PreferencePair, Skipped
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion

Phase = Literal["preparing", "generating", "judging", "training", "publishing", "evaluating", "committed", "failed"]
RunState = Literal["queued", "running", "paused", "succeeded", "cancelled", "failed", "unreadable"]


class RunRecord(Fact):
    """`run.json`: written once, when the run is created."""

    id: str
    spec: RunSpec
    created_at: str = Field(
        description="RFC 3339, UTC; of two runs the later made has the later one, also when clocks jump"
    )
    code_revision: str
    num_prompts: int
    skipped: list[Skipped] = Field(description="the first of the prompts left out at creation, with the reason")
    num_skipped: int | None = Field(default=None, description="how many those are; null: `skipped` has them all")


class Progress(Fact):
    """How much of the current phase is done, in shards (training: one)."""

    iteration: int
    num_iterations: int
    half: int = Field(default=1, description="half-step of the iteration that is being worked on")
    num_halves: int = 1
    phase: Phase
    done: int
    total: int
    dead: int = 0
    waiting: str | None = Field(
        default=None, description="what holds the run up: what is unavailable, or why work is tried again"
    )


class RunView(Fact):
    """`GET /v1/runs/{id}`."""

    id: str
    name: str
    state: RunState = Field(description="`unreadable`: the run's record is missing or torn, see `reason`; others go on")
    reason: str | None = Field(default=None, description="why the run is in its state, or what of it cannot be read")
    created_at: str
    progress: Progress
    weights: WeightVersion | None = Field(description="the newest committed version")
    latest: EvaluationResult | None
    num_prompts: int
    num_skipped: int = Field(description="rows of the prompt sets that were left out when they were read, at creation")


class Advice(Fact):
    """A warning about a run that is allowed all the same: of theory, or that the disk will not hold it."""

    field: str = Field(description="the field of the specification that it is about")
    message: str


class RunDetail(RunView):
    """With the specification, everything that was left out, and what theory has to say against it."""

    spec: RunSpec | None = Field(description="null for a run that is unreadable")
    skipped: list[Skipped] = Field(
        description="the first of the rows left out at creation, with the reason; all: `GET /v1/runs/{id}/skipped`"
    )
    warnings: list[Advice] = Field(default_factory=list[Advice])


class RunList(Fact):
    """`GET /v1/runs`: newest first, a page at a time."""

    runs: list[RunView]
    next: str | None = Field(default=None, description="`before` of the page that follows; null on the last")


class IterationView(Fact):
    """A committed iteration, and the evaluation of its weights once that is there."""

    iteration: int
    commit: Commit | None = Field(description="null for row 0, the reference policy")
    evaluation: EvaluationResult | None
    problem: str | None = Field(default=None, description="what of the iteration cannot be read, and is missing here")


class IterationList(Fact):
    """`GET /v1/runs/{id}/iterations`: row 0 is the reference policy; a page at a time."""

    iterations: list[IterationView]
    skipped: list[Skipped] = Field(
        description="the first of the prompts and pairs that these iterations left out; all: "
        "`GET /v1/runs/{id}/skipped?iteration=…`, and `dropped` of a commit counts them"
    )
    next: int | None = Field(default=None, description="`offset` of the page that follows; null on the last")


class SkippedPage(Fact):
    """`GET /v1/runs/{id}/skipped`."""

    total: int
    offset: int
    skipped: list[Skipped]
    problem: str | None = Field(default=None, description="what cannot be read, and is missing here")


class PairPage(Fact):
    """`GET /v1/runs/{id}/pairs?iteration=…`."""

    iteration: int
    total: int
    offset: int
    pairs: list[PreferencePair]
    problem: str | None = Field(default=None, description="shards that cannot be read, and are missing here")


class WeightsView(Fact):
    """A committed weight version."""

    version: WeightVersion
    parent: str | None
    num_parameters: int
    size_bytes: int
    path: str


class DamagedWeights(Fact):
    """A committed weight version that cannot be had, and why."""

    run: str
    number: int
    problem: str


class WeightsList(Fact):
    """`GET /v1/weights`."""

    weights: list[WeightsView]
    damaged: list[DamagedWeights] = Field(default_factory=list[DamagedWeights])
