"""Rows of the Parquet artifacts, and the small JSON facts beside them."""

from typing import Literal

from pydantic import Field

from shared.contracts.base import Fact, Signed
from shared.contracts.outside import OutsideText
from shared.contracts.weights import Precision, WeightVersion

FinishReason = Literal["stop", "length"]
VerdictStatus = Literal["ok", "tie", "abstain", "error"]


class Message(Fact):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(Fact):
    """A row of `prompts.parquet`: text for the tokenizer, or messages for the chat template."""

    prompt_id: str
    messages: list[Message] = Field(min_length=1)
    split: Literal["train", "held_out"] = "train"
    set: int = 0


class Skipped(Fact):
    """Input that was left out, and why. Nothing is ever left out silently."""

    id: OutsideText
    reason: OutsideText


class Rollout(Fact):
    """A prompt with its K responses and the weight versions that sampled them. Rows of `rollouts/`.

    Responses of one rollout come from one version, unless the step samples from a mixture of versions. `log_probs` are
    always those of the policy itself under the response's version, never of the distribution that it was drawn from:
    they are what the trainer's own forward is compared with.

    Lists over responses have length K; inner lists are over the response's tokens, with the stop token when the
    policy produced one (`finish_reasons` "stop") and without it when the response was cut ("length").
    """

    prompt_id: str
    prompt: list[Message]
    prompt_ids: list[int] = Field(description="token ids as fed to the policy")
    responses: list[str]
    response_ids: list[list[int]]
    log_probs: list[list[float]] = Field(description="sampler's log pi(token) at temperature 1, in nats")
    finish_reasons: list[FinishReason]
    versions: list[int] = Field(description="number of the weight version of each response")
    digests: list[str] = Field(description="digest of the weight version of each response")
    precision: Precision = Field(default="float32", description="what the sampler computed in")
    effective_sample_size: float | None = Field(
        default=None, description="of the proposals that the responses were resampled from; null where none were"
    )


class Verdict(Fact):
    """A judge's answer to one comparison: row of `judgments/`.

    `a` and `b` index the rollout's responses (in an evaluation `b` indexes the reference policy's). Status `ok` and
    `tie` carry a probability; `abstain` (answered, but not usable) and `error` (no answer) carry none, and no winner.
    """

    prompt_id: str
    a: int
    b: int
    draw: int = Field(description="how often this comparison had been asked before in this step")
    status: VerdictStatus
    probability: float | None = Field(default=None, ge=0.0, le=1.0, description="P(a beats b), both orders averaged")
    probability_given: float | None = Field(default=None, description="P(a beats b) as seen with a first")
    probability_swapped: float | None = Field(default=None, description="P(a beats b) as seen with b first")
    answer: float | None = Field(
        default=None, ge=0.0, le=1.0, description="the oracle's answer: a draw from P, or P itself"
    )
    judge: str
    judge_revision: str
    latency_s: float = Field(ge=0.0)
    error: OutsideText | None = None


class CrossComparison(Fact):
    """A comparison for the duality gap: row of `comparisons/`.

    Asked once for equal texts, never for a text with itself. `a` indexes the evaluated version's responses, `b` those
    of version number `opponent`.
    """

    prompt_id: str
    a: int
    opponent: int
    b: int
    probability: float | None = Field(ge=0.0, le=1.0, description="P(a beats b); null without a verdict")


class PreferencePair(Fact):
    """Row of `pairs/`. Holds no clock, run id or digest: equal work gives equal bytes.

    `preference` is the oracle's answer for chosen against rejected (1 for a binary oracle). The regression target is
    `(preference - 1/2) / eta`, which for a binary answer is the paper's `1 / (2 eta)`.
    """

    prompt_id: str
    prompt: list[Message]
    chosen: str
    rejected: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen_log_prob: float = Field(description="sampler's log pi_t(chosen), the witness")
    rejected_log_prob: float
    preference: float = Field(ge=0.0, le=1.0)
    probability: float | None = Field(description="the judge's P(chosen beats rejected), where it gave one")
    judge_revision: str
    chosen_version: int = Field(description="number of the weight version that sampled the chosen response")
    rejected_version: int
    chosen_win_rate: float | None = Field(
        default=None, description="mean answer for it against all other responses, where the selection asks for all"
    )
    rejected_win_rate: float | None = None


class StoreIdentity(Signed):
    """`identity.json`: which store this is. A copy of a store is the same one to whoever reads it."""

    id: str


class DeadLetter(Fact):
    """`dead/<kind>-<shard>.json`: work given up, mostly after three tries; it fails the run with this reason."""

    item: str
    attempts: int
    reasons: list[OutsideText]


class PublishedWeights(Signed):
    """`weights.json` of a base or half-step: the weights that it made, chosen once, and what training measured."""

    version: WeightVersion
    metrics: dict[str, float] = Field(default_factory=dict)
    skipped: list[Skipped] = Field(default_factory=list[Skipped])


class ReferenceScores(Fact):
    """`scores.json` of an evaluation: log pi_t(y) - log pi_ref(y) of every response, in nats, in rollout order."""

    log_ratios: list[float]
    previous_log_ratios: list[float] | None = Field(
        default=None, description="the same to the version before; null where that is the reference"
    )


class Estimate(Fact):
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float
    num: int


class Sample(Fact):
    """A prompt with the reference policy's response and the version's, for people to look at."""

    prompt: str
    reference: str
    response: str


class DualityGap(Fact):
    """How far a version is from the Nash policy of the game with this `tau`: 0 there, else positive.

    Either `estimate`, or why there is none in `refusal`; the lower bound holds in both cases.
    """

    tau: float
    estimate: Estimate | None
    refusal: str | None
    effective_samples: float | None = Field(
        description="smallest of any prompt: how many responses the estimate rests on, after reweighting"
    )
    lower_bound: Estimate | None = Field(description="some policy at hand proves a gap of at least this")
    best_win_rate: Estimate | None = Field(description="that policy's win rate against this version")
    found_by: str | None = Field(description="that policy: reference, best of 16, version 3")
    num_comparisons: int = Field(description="what the judge was asked for this: the oracle cost")
    num_unjudged: int = Field(description="of these, without a verdict and left out")


class EvaluationResult(Fact):
    """`result.json` of an evaluation."""

    version: WeightVersion
    win_rate: Estimate | None = Field(
        description="against the reference's responses; null for the reference itself, and where nothing was judged"
    )
    kl: Estimate | None = Field(description="KL to the reference, nats a response; null where nothing was sampled")
    kl_to_previous: Estimate | None = Field(
        default=None, description="KL to the version before it, the policy that its pairs were sampled from"
    )
    mean_response_tokens: float
    truncated_share: float
    distinct_response_share: float = Field(description="distinct responses / responses: 1 / num when collapsed")
    unjudged_share: float
    duality_gap: DualityGap | None = Field(default=None, description="null unless evaluation.duality_gap is asked for")
    warnings: list[str] = Field(default_factory=list)
    samples: list[Sample] = Field(default_factory=list[Sample])


class Commit(Signed):
    """`commit.json`: an iteration happened, once. Names its weights, records its artifacts' digests."""

    iteration: int
    weights: WeightVersion
    num_pairs: int
    digests: dict[str, str] = Field(description="sha256 of every artifact of the iteration, by key")
    metrics: dict[str, float] = Field(description="by the names of shared.contracts.metrics")
    dropped: dict[str, int] = Field(
        default_factory=dict[str, int], description="prompts and pairs that were left out, counted by reason"
    )


class Intent(Fact):
    """`intents/0004.json`: what somebody wants of a run; the highest number is in force."""

    action: Literal["pause", "resume", "cancel", "failed"]
    reason: OutsideText | None = None
    request: str | None = Field(default=None, description="digest of the request's Idempotency-Key, where it had one")
