"""REST bodies of the controller."""

from typing import Literal

from pydantic import Field

from shared.contracts.base import Fact
from shared.contracts.records import Commit, EvaluationResult, PreferencePair, Skipped
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion

Phase = Literal["preparing", "generating", "judging", "training", "publishing", "evaluating", "committed", "failed"]
RunState = Literal["queued", "running", "paused", "succeeded", "cancelled", "failed"]


class RunRecord(Fact):
    """`run.json`: written once, when the run is created."""

    id: str
    spec: RunSpec
    created_at: str = Field(description="RFC 3339, UTC")
    code_revision: str
    num_prompts: int
    skipped: list[Skipped] = Field(description="prompts left out at creation, with the reason")


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
    state: RunState
    reason: str | None = None
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

    spec: RunSpec
    skipped: list[Skipped] = Field(description="rows left out at creation, with the reason")
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
    skipped: list[Skipped] = Field(description="prompts and pairs that these iterations left out, with the reason")
    next: int | None = Field(default=None, description="`offset` of the page that follows; null on the last")


class PairPage(Fact):
    """`GET /v1/runs/{id}/pairs?iteration=…`."""

    iteration: int
    total: int
    offset: int
    pairs: list[PreferencePair]


class WeightsView(Fact):
    """A committed weight version."""

    version: WeightVersion
    parent: str | None
    num_parameters: int
    size_bytes: int
    path: str


class WeightsList(Fact):
    """`GET /v1/weights`."""

    weights: list[WeightsView]
