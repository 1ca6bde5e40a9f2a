"""Plans: what one step of a run samples, judges and trains. A step is a folder of the store with a `plan.json`."""

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from shared.contracts.base import Fact, Signed
from shared.contracts.chat_template import ChatTemplateKwargs
from shared.contracts.spec import ModelSpec, OracleSpec, SamplingSpec, SelectionSpec, TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.inpo.plan import LossName


class Shard(Fact):
    """A slice of a step's prompts: the unit of work."""

    index: int = Field(ge=0)
    prompts: list[int] = Field(description="row numbers in the run's prompts.parquet")


class BasePlan(Signed):
    """Import the run's model as weight version 0."""

    type: Literal["base"] = "base"
    run: str
    model: ModelSpec


class AnchorWeights(Fact):
    """One factor of the anchor: these weights, to this power."""

    version: WeightVersion
    exponent: float


class UniformMixtureWeights(Fact):
    """Each response is sampled from one of these weights, drawn uniformly and by seed."""

    kind: Literal["uniform"] = "uniform"
    versions: list[WeightVersion] = Field(min_length=2)

    @model_validator(mode="after")
    def _distinguishable(self) -> Self:
        numbers = [version.number for version in self.versions]
        if len(set(numbers)) != len(numbers):
            raise ValueError("mixture: two of its versions have the same number; pairs could not tell them apart")
        return self


class GeometricMixtureWeights(Fact):
    """Responses are sampled from `ref^m · pi^(1 - m)`, m = `reference_exponent`, pi = `sample_from`, ref = `reference`.

    How that is done, and how exact it is, is `sampling.geometric` of the plan.
    """

    kind: Literal["geometric"] = "geometric"
    reference_exponent: float = Field(gt=0.0, lt=1.0)


MixtureWeights = Annotated[UniformMixtureWeights | GeometricMixtureWeights, Field(discriminator="kind")]


class HalfStepPlan(Signed):
    """Sample and judge pairs under `sample_from`, then train `start_from` towards the anchored target."""

    type: Literal["half_step"] = "half_step"
    run: str
    iteration: int = Field(ge=1)
    half: int = Field(ge=1)
    num_halves: int = Field(default=1, ge=1, description="half-steps of the iteration; the last one makes the iterate")
    sample_from: WeightVersion = Field(description="the sampling policy, the opponent; of a `mixture`, its newest part")
    mixture: MixtureWeights | None = Field(default=None, description="null: `sample_from` alone")
    same_pairs_as: int | None = Field(
        default=None, ge=1, description="train on the pairs of this half-step; nothing is sampled or judged"
    )
    start_from: WeightVersion
    reference: WeightVersion
    anchors: list[AnchorWeights]
    loss: LossName
    scale: float = Field(gt=0.0, description="beta of the loss `logistic`, eta of every other")
    win_rates: bool = Field(default=False, description="the loss reads both responses' win rates, not their comparison")
    sampling: SamplingSpec
    prompt_format: Literal["auto", "chat", "text"]
    chat_template_kwargs: ChatTemplateKwargs = Field(default_factory=dict)
    max_prompt_tokens: int
    oracle: OracleSpec
    selection: SelectionSpec
    training: TrainingSpec
    shards: list[Shard]
    seed: int
    planned_at_s: float = Field(description="Unix time, for the iteration's duration")

    @property
    def samplers(self) -> list[WeightVersion]:
        """The versions that responses may come from, and whose log-probs are stored with them."""
        return self.mixture.versions if isinstance(self.mixture, UniformMixtureWeights) else [self.sample_from]

    @property
    def makes_half(self) -> int | None:
        """`WeightVersion.half` of what the step trains: None for the last half-step, which makes the iterate."""
        return None if self.half == self.num_halves else self.half


class GapPlan(Fact):
    """Compare all responses with all of the reference, for the duality gap of the game with this tau."""

    tau: float = Field(ge=0.0)
    earlier: list[WeightVersion] = Field(description="versions whose response j also meets the version's response j")


class EvaluationPlan(Signed):
    """Sample `version` on held-out prompts, judge it against the reference's responses, score its KL."""

    type: Literal["evaluation"] = "evaluation"
    run: str
    version: WeightVersion
    reference: WeightVersion
    sampling: SamplingSpec
    num_responses: int
    prompt_format: Literal["auto", "chat", "text"]
    chat_template_kwargs: ChatTemplateKwargs = Field(default_factory=dict)
    max_prompt_tokens: int
    oracle: OracleSpec
    shards: list[Shard]
    seed: int
    previous: WeightVersion | None = Field(default=None, description="the version before it, unless the reference")
    duality_gap: GapPlan | None = None


Plan = Annotated[BasePlan | HalfStepPlan | EvaluationPlan, Field(discriminator="type")]
PLAN: TypeAdapter[BasePlan | HalfStepPlan | EvaluationPlan] = TypeAdapter(Plan)
