"""Plans: what one step of a run samples, judges and trains. A step is a folder of the store with a `plan.json`."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from shared.contracts.base import Fact
from shared.contracts.spec import ModelSpec, OracleSpec, SamplingSpec, SelectionSpec, TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.inpo.plan import LossName


class Shard(Fact):
    """A slice of a step's prompts: the unit of work."""

    index: int = Field(ge=0)
    prompts: list[int] = Field(description="row numbers in the run's prompts.parquet")


class BasePlan(Fact):
    """Import the run's model as weight version 0."""

    type: Literal["base"] = "base"
    run: str
    model: ModelSpec


class AnchorWeights(Fact):
    """One factor of the anchor: these weights, to this power."""

    version: WeightVersion
    exponent: float


class HalfStepPlan(Fact):
    """Sample and judge pairs under `sample_from`, then train `start_from` towards the anchored target."""

    type: Literal["half_step"] = "half_step"
    run: str
    iteration: int = Field(ge=1)
    half: int = Field(ge=1)
    sample_from: WeightVersion
    start_from: WeightVersion
    reference: WeightVersion
    anchors: list[AnchorWeights]
    loss: LossName
    scale: float = Field(gt=0.0, description="eta of the squared loss, beta of the logistic one")
    sampling: SamplingSpec
    prompt_format: Literal["auto", "chat", "text"]
    max_prompt_tokens: int
    oracle: OracleSpec
    selection: SelectionSpec
    training: TrainingSpec
    shards: list[Shard]
    seed: int
    planned_at_s: float = Field(description="Unix time, for the iteration's duration")


class GapPlan(Fact):
    """Compare all responses with all of the reference, for the duality gap of the game with this tau."""

    tau: float = Field(ge=0.0)
    earlier: list[WeightVersion] = Field(description="versions whose response j also meets the version's response j")


class EvaluationPlan(Fact):
    """Sample `version` on held-out prompts, judge it against the reference's responses, score its KL."""

    type: Literal["evaluation"] = "evaluation"
    run: str
    version: WeightVersion
    reference: WeightVersion
    sampling: SamplingSpec
    num_responses: int
    prompt_format: Literal["auto", "chat", "text"]
    max_prompt_tokens: int
    oracle: OracleSpec
    shards: list[Shard]
    seed: int
    duality_gap: GapPlan | None = None


Plan = Annotated[BasePlan | HalfStepPlan | EvaluationPlan, Field(discriminator="type")]
PLAN: TypeAdapter[BasePlan | HalfStepPlan | EvaluationPlan] = TypeAdapter(Plan)
