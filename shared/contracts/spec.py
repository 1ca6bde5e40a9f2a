"""`RunSpec`: everything that a person says about a run. Field texts are the reference documentation."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from shared.contracts.base import Input
from shared.contracts.chat_template import ChatTemplateKwargs
from shared.contracts.judges import JudgeSpec
from shared.inpo import algorithms, plan
from shared.inpo.algorithms import ALGORITHMS

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

PROMPT_COLUMNS = ("prompt", "messages", "conversations")


class ModelSpec(Input):
    """The model to align: the reference policy, weight version 0."""

    path: str = Field(description="A Hugging Face model directory, or a hub id such as `org/name`.")
    revision: str | None = Field(default=None, description="Commit of the hub id; ignored for a directory.")


class PromptSource(Input):
    """One set of prompts: a JSONL or Parquet file, or a hub dataset at a revision."""

    path: str | None = Field(default=None, description="A .jsonl, .jsonl.gz or .parquet file.")
    hub: str | None = Field(default=None, description="A hub dataset id; its Parquet and JSONL files are read.")
    revision: str | None = Field(default=None, description="Commit of the hub dataset.")
    column: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="Column holding text, or a conversation: a list of turns as {role, content}, the content text or a "
        "list of text parts, or as {from, value}. Several columns are joined by blank lines, empty ones left out. By "
        f"default the first of {', '.join(f'`{name}`' for name in PROMPT_COLUMNS)} that is there and not null.",
    )
    drop_last_assistant_turns: bool = Field(
        default=False,
        description="Take the assistant's turns off the end of a conversation, so that the user's is the last; "
        "otherwise a conversation that ends with the assistant's turn is skipped.",
    )
    id_column: str | None = Field(
        default=None, description="Column with the prompt's id; its content's hash by default."
    )
    system: str | None = Field(default=None, description="System prompt put before every prompt.")
    limit: int | None = Field(default=None, ge=1, description="Read at most this many rows.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of `path` and `hub`")
        return self


class PromptsSpec(Input):
    """The prompts of the run's iterations."""

    sets: list[PromptSource] = Field(
        min_length=1,
        description="One set shared by all iterations, or one for each iteration (the paper's three disjoint sets).",
    )
    num_per_iteration: int | None = Field(
        default=None,
        ge=1,
        description="Prompts an iteration; a whole set by default. A shared set is walked without repeats.",
    )
    format: Literal["auto", "chat", "text"] = Field(
        default="auto",
        description="`chat` renders the chat template, `text` feeds the text; `auto` asks the tokenizer.",
    )
    chat_template_kwargs: ChatTemplateKwargs = Field(
        default_factory=dict,
        description="Variables of the chat template, handed to it as `apply_chat_template(..., **kwargs)` does, e.g. "
        "`enable_thinking: false` for Qwen3.",
    )
    max_tokens: int = Field(default=1024, ge=1, description="Longer prompts are listed as skipped, never cut.")

    @model_validator(mode="after")
    def _read_by_a_template(self) -> Self:
        if self.chat_template_kwargs and self.format == "text":
            raise ValueError("chat_template_kwargs are read by a chat template, which format `text` does not use")
        return self


class GeometricSpec(Input):
    """How `ref^m · pi_t^(1 - m)` is sampled, by the algorithms that ask for it; docs/sampling.md has the difference."""

    method: Literal["token", "sequence"] = Field(
        default="token",
        description="`token` mixes next-token distributions, which the engine must be able to do; `sequence` resamples "
        "whole responses of pi_t by importance, which any engine can do.",
    )
    num_proposals: int = Field(
        default=64, ge=2, le=65_536, description="`sequence`: responses of pi_t that the K responses are drawn from."
    )
    min_effective_samples: float = Field(
        default=8.0, ge=1.0, description="`sequence`: a prompt whose proposals are worth less than this is skipped."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.min_effective_samples > self.num_proposals:
            raise ValueError(
                f"min_effective_samples ({self.min_effective_samples:g}) must not exceed num_proposals "
                f"({self.num_proposals}): no prompt could pass"
            )
        return self


class SamplingSpec(Input):
    """How responses are sampled. The sampling policy is the opponent: tempering it changes the game being solved."""

    num_responses: int = Field(default=8, ge=2, description="K, the responses to each prompt.")
    max_new_tokens: int = Field(default=256, ge=1, description="Responses are cut here; a cut response gets no EOS.")
    temperature: float = Field(default=1.0, gt=0.0, le=10.0, description="1 samples the policy itself.")
    top_p: Annotated[float, Field(gt=0.0, le=1.0, description="1 keeps the whole distribution.")] = 1.0
    geometric: GeometricSpec = GeometricSpec()

    @model_validator(mode="after")
    def _proposals_are_the_policys(self) -> Self:
        if self.geometric.method == "sequence" and (self.temperature, self.top_p) != (1.0, 1.0):
            raise ValueError(
                "geometric.method `sequence` weighs draws of the policy itself: temperature and top_p must be 1"
            )
        return self


class OracleSpec(Input):
    """Who answers comparisons, and how an answer is made of a probability."""

    judge: JudgeSpec
    answers: Literal["binary", "probability"] = Field(
        default="binary",
        description="`binary` draws the winner from P (the paper's definition 1), seeded; `probability` answers P.",
    )
    judged_part: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None,
        description="Regular expression: judges see what its group 1 (without a group, all of it) matches first in a "
        "response, e.g. `(?s)</think>(.*)`; whole responses are trained on. A comparison with a response in which it "
        "finds nothing, or searches for more than a second, gets no verdict: see max_unjudged.",
    )
    max_unjudged: Fraction = Field(
        default=0.02, description="Share of comparisons that may stay without a verdict; above it the iteration fails."
    )
    max_retries: int = Field(
        default=8, ge=0, description="How often a judge is asked again that fails on a comparison, with growing pauses."
    )
    max_outage_s: float = Field(
        default=86_400.0,
        gt=0.0,
        description="How long a judge may be unavailable (unreachable, or fetching nothing) before the run fails.",
    )

    @field_validator("judged_part")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError, FutureWarning) as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


def _readers(parameter: str) -> str:
    return ", ".join(f"`{name}`" for name, method in sorted(ALGORITHMS.items()) if parameter in method.parameters)


def _name_schema(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(ALGORITHMS)


class AlgorithmSpec(Input):
    """The method and its parameters; docs/algorithms.md has every method's formula. One letter has one meaning."""

    name: str = Field(
        default="inpo",
        description="One of " + ", ".join(f"`{name}`" for name in sorted(ALGORITHMS)) + ".",
        json_schema_extra=_name_schema,
    )
    eta: float | None = Field(
        default=None,
        gt=0.0,
        description=f"Inverse step size, larger means smaller steps: {_readers('eta')}. Unset with `theorem4`. "
        "SPPO's code calls it beta, Nash-MD's and EGPO's papers call 1/eta the step.",
    )
    tau: float = Field(
        default=0.0,
        ge=0.0,
        description=f"Strength of the KL to the reference policy: {_readers('tau')}. 0 is INPO without KL.",
    )
    schedule: plan.StepSchedule = Field(
        default="constant", description=f"`theorem4`: eta_t = tau (t + 2) / 2. For {_readers('schedule')}."
    )
    beta: float | None = Field(
        default=None, gt=0.0, description=f"Scale of the logistic loss: {_readers('beta')}. Its public scripts: 0.1."
    )
    reference: plan.ReferenceChoice = Field(
        default="previous",
        description=f"The loss's reference: {_readers('reference')}. `previous` is what its public scripts do.",
    )
    mixture: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description=f"Share of the reference in the geometric mixture sampled from: {_readers('mixture')}; 0.125.",
    )
    prox: float | None = Field(
        default=None, gt=0.0, description=f"lambda, the weight of KL(pi || pi_t): {_readers('prox')}; 0.5."
    )
    ratio: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description=f"Exponent of the reference in the anchor, in place of tau / eta: {_readers('ratio')}.",
    )
    weights: tuple[float, ...] | None = Field(
        default=None,
        min_length=1,
        description=f"Of the recent iterates in the anchor, the newest first: {_readers('weights')}; 1, 1.",
    )
    opponents: plan.Opponents = Field(
        default="current",
        description=f"`mixture` samples from the uniform mixture of the recent iterates: {_readers('opponents')}.",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return algorithms.algorithm_named(name).name

    @model_validator(mode="after")
    def _complete(self) -> Self:
        algorithms.check(self.name, self.parameters())
        return self

    def parameters(self) -> plan.Parameters:
        """The same as the mathematics wants it."""
        return plan.Parameters(**self.model_dump(exclude={"name"}))

    @property
    def needs_win_rates(self) -> bool:
        """Its loss reads each response's win rate against all others of its prompt."""
        return any(half.needs_win_rates for half in algorithms.check(self.name, self.parameters()).half_steps)


class SelectionSpec(Input):
    """Which of K responses become preference pairs."""

    method: Literal["tournament", "best_worst", "random_pairs", "all_pairs"] = Field(
        default="tournament",
        description="`tournament`: the paper's 3K/2-1 comparisons; `best_worst`: by mean preference over all pairs; "
        "`random_pairs`: disjoint i.i.d. pairs, what the theory asks for; `all_pairs`: every pair.",
    )
    num_pairs: int | None = Field(default=None, ge=1, description="`random_pairs`: pairs a prompt; K/2 by default.")
    tied_final: Literal["drop", "first"] = Field(default="drop", description="A tournament whose last game is a tie.")


class TrainingSpec(Input):
    """The optimisation of one iteration: AdamW, cosine schedule with warm-up; a new optimizer each iteration."""

    learning_rate: float = Field(default=5e-7, gt=0.0, le=1.0)
    batch_size: int = Field(default=128, ge=1, description="Pairs an optimizer step.")
    micro_batch_size: int = Field(
        default=16, ge=1, description="Pairs a forward; gradients are accumulated to batch_size."
    )
    num_epochs: int = Field(default=1, ge=1, le=100)
    warmup_fraction: Fraction = 0.03
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    max_pair_tokens: int = Field(default=2048, ge=8, description="A longer prompt + response drops its pair, listed.")
    checkpoint_every_steps: int = Field(default=200, ge=1)
    step_zero_tolerance: float | None = Field(
        default=None,
        gt=0.0,
        description="Largest |log pi_theta - log pi_t| of a stored response, in nats a token, at step 0. Unset: by "
        "what the trainer computes in, 0.001 in float32, 0.05 in bfloat16.",
    )
    witness_tolerance: float | None = Field(
        default=None,
        gt=0.0,
        description="Largest mean |trainer's - sampler's log-prob| a token, in nats; beyond it training is refused. "
        "Unset: by the coarser of what sampler and trainer compute in, 0.001 in float32, 0.01 in float16, 0.05 in "
        "bfloat16.",
    )


class DualityGapSpec(Input):
    """How far each weight version is from the Nash policy, estimated from samples."""

    tau: float | None = Field(
        default=None, ge=0.0, description="Of the game whose gap is wanted; by default the algorithm's."
    )
    num_earlier_versions: int = Field(
        default=1, ge=0, description="Versions before it that try to beat it, for the lower bound; the newest ones."
    )


class EvaluationSpec(Input):
    """Measured for every weight version, on prompts held out from training."""

    prompts: PromptSource | None = Field(
        default=None, description="A set of its own; by default `num_prompts` are held out of the first training set."
    )
    num_prompts: int = Field(default=64, ge=0, description="0 measures nothing.")
    num_responses: int = Field(
        default=1, ge=1, le=1024, description="Responses a prompt, each against one of the reference."
    )
    duality_gap: DualityGapSpec | None = Field(
        default=None,
        description="Estimate the duality gap as well; `{}` will do. All `num_responses` of the version are compared "
        "with all of the reference: at most num_responses^2 comparisons a prompt, of different texts only.",
    )
    max_kl: float = Field(
        default=50.0,
        gt=0.0,
        description="A larger KL to the reference, in nats a response, is flagged as reward hacking.",
    )


class RunSpec(Input):
    """A run: align `model` on `prompts` under `oracle` by `algorithm` for a number of iterations."""

    name: str = Field(default="run", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="Becomes part of the run's id.")
    model: ModelSpec
    prompts: PromptsSpec
    sampling: SamplingSpec = SamplingSpec()
    oracle: OracleSpec
    algorithm: AlgorithmSpec
    selection: SelectionSpec = SelectionSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    iterations: int = Field(default=3, ge=1, le=1000)
    shard_size: int = Field(default=16, ge=1, le=4096, description="Prompts a shard: the unit of work, retry and loss.")
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        num = self.sampling.num_responses
        if self.selection.method == "tournament" and num & (num - 1):
            raise ValueError(f"a tournament needs sampling.num_responses to be a power of two, not {num}")
        pairs = self.selection.num_pairs
        if pairs is not None and self.selection.method != "random_pairs":
            raise ValueError("selection.num_pairs is for the method `random_pairs` only")
        if pairs is not None and 2 * pairs > num:
            raise ValueError(f"selection.num_pairs = {pairs} disjoint pairs need {2 * pairs} responses, not {num}")
        if self.algorithm.needs_win_rates and self.selection.method not in ("all_pairs", "best_worst"):
            raise ValueError(
                f"{self.algorithm.name} needs the win rate of every response, which selection.method = "
                f"{self.selection.method} does not measure: choose `best_worst` or `all_pairs`"
            )
        if len(self.prompts.sets) not in (1, self.iterations):
            raise ValueError(f"give one prompt set, or one for each of the {self.iterations} iterations")
        return self
