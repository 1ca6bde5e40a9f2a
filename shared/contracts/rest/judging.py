"""Questions to a judge and its answers, matched by ids: REST bodies of `/v1/judgments` and `/v1/comparisons`.

The same schema serves both ways: the oracle answers it, and it asks external judges in it.
"""

from typing import Annotated, Any, Literal, Self, cast

from pydantic import Discriminator, Field, Tag, model_validator

from shared.contracts.base import Fact, Input
from shared.contracts.judges import JudgeName, Order, PairModelJudge, RewardModelJudge, RulesJudge
from shared.contracts.outside import OutsideText
from shared.contracts.records import Message, VerdictStatus

MAX_ITEMS = 256
Text = Annotated[str, Field(max_length=1_000_000)]


class CandidateResponse(Input):
    """A response to be compared; `id` names it in `pairs`."""

    id: str
    content: Text


class JudgmentItem(Input):
    """A prompt, its responses, and which of them to compare."""

    id: str
    prompt: list[Message] = Field(min_length=1)
    responses: list[CandidateResponse] = Field(min_length=2)
    pairs: list[tuple[str, str]] = Field(min_length=1, description="ids of the responses, first against second")

    @model_validator(mode="after")
    def _known_responses(self) -> Self:
        ids = {response.id for response in self.responses}
        if len(ids) != len(self.responses):
            raise ValueError("two responses have the same id")
        for pair in self.pairs:
            for name in pair:
                if name not in ids:
                    raise ValueError(f"pairs names the response {name!r}, which is not in responses")
            if pair[0] == pair[1]:
                raise ValueError(f"pairs compares {pair[0]!r} with itself")
        return self


def _kind_of(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    if isinstance(value, dict):
        return str(cast(dict[str, Any], value).get("kind", "rules"))
    return cast(str | None, getattr(value, "kind", None))


AskedJudge = Annotated[
    Annotated[RulesJudge, Tag("rules")]
    | Annotated[RewardModelJudge, Tag("reward_model")]
    | Annotated[PairModelJudge, Tag("pair_model")]
    | Annotated[JudgeName, Tag("name")],
    Discriminator(_kind_of),
]


class JudgmentRequest(Input):
    """A batch of comparisons for one judge. Without items it asks who the judge is."""

    judge: AskedJudge | None = Field(
        default=None, description="A judge to be built, or the name of one that is there; null where there is only one."
    )
    judge_revision: str | None = Field(
        default=None, description="Refuse to answer (409) when the judge's revision differs."
    )
    answers: Literal["binary", "probability"] = "probability"
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the draws, when answers are binary")
    order: Order = Field(default="both", description="`both` averages over positions, `given` asks as written.")
    deadline_s: float = Field(
        default=3600.0, gt=0.0, le=3600.0, description="What is not answered by then may come back as `error`."
    )
    items: list[JudgmentItem] = Field(max_length=MAX_ITEMS)


class JudgeIdentity(Fact):
    """Which judge answered. The revision changes with the model, the template and the decoding parameters."""

    id: str
    revision: str
    kind: str = "external"
    transitive: bool = Field(default=False, description="one scalar a response explains all its answers")
    both_orders: bool = Field(
        default=False, description="asks itself in both orders where `order` is `both`; otherwise whoever asks does"
    )
    stochastic: bool = Field(default=False, description="its answer to the same question may differ from draw to draw")


class JudgmentResult(Fact):
    """One comparison answered. `p` = P(first beats second), null unless status is `ok` or `tie`."""

    item_id: str
    pair: tuple[str, str]
    status: VerdictStatus
    p: float | None = None
    p_given: float | None = None
    p_swapped: float | None = Field(
        default=None, description="P(first beats second) as seen with the positions exchanged"
    )
    answer: float | None = Field(default=None, description="the oracle's answer: a seeded draw from p, or p itself")
    latency_s: float = 0.0
    error: OutsideText | None = None


class JudgmentResponse(Fact):
    """Every pair of the request answered exactly once."""

    judge: JudgeIdentity
    results: list[JudgmentResult]


JudgeLabel = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")]


class OpenComparison(Fact):
    """`comparisons/<id>.json`: a question to a judge that fetches its questions. Written before it is put up."""

    id: str
    judge: str
    judge_revision: str
    prompt: list[Message]
    first: str
    second: str


class KeptVerdict(Fact):
    """`verdicts/<id>.json`: what a judge answered, once, for every run that asks the same again. Never an `error`."""

    judge: JudgeIdentity
    status: Literal["ok", "tie", "abstain"]
    p_given: float | None = Field(default=None, ge=0.0, le=1.0, description="null for an abstention")
    p_swapped: float | None = Field(default=None, ge=0.0, le=1.0)
    latency_s: float = Field(ge=0.0)
    reason: OutsideText | None = None


class LeaseRequest(Input):
    """`POST /v1/comparisons:lease`."""

    judge: JudgeLabel = Field(description="the judge's name, as in the run's specification", examples=["anna"])
    judge_revision: JudgeLabel = Field(default="1", description="only comparisons for this revision are given out")
    max_items: int = Field(default=1, strict=True, ge=1, le=MAX_ITEMS)
    lease_s: float = Field(
        default=300.0, strict=True, ge=1.0, le=86_400.0, description="afterwards others may get them"
    )
    wait_s: float = Field(default=0.0, strict=True, ge=0.0, le=30.0, description="how long to wait for the first one")


class LeasedComparison(Fact):
    """A question: P(the first of `responses` beats the second)."""

    id: str
    judge: str
    judge_revision: str
    prompt: list[Message]
    responses: tuple[str, str] = Field(description="to be shown in this order")
    lease: str = Field(description="to be sent with the verdict")
    expires_at_s: float = Field(description="Unix seconds of the queue's clock")


class LeasedComparisons(Fact):
    """Empty when nothing is open."""

    comparisons: list[LeasedComparison]


class VerdictRequest(Input):
    """`POST /v1/comparisons/{id}/verdict`."""

    lease: str = Field(min_length=1, max_length=200)
    status: VerdictStatus = "ok"
    p: float | None = Field(
        default=None, strict=True, ge=0.0, le=1.0, description="P(first beats second); a tie may leave it out"
    )
    reason: OutsideText | None = Field(default=None, max_length=1000, description="of an abstention or an error")

    @model_validator(mode="after")
    def _number_where_there_is_one(self) -> Self:
        if self.status == "ok" and self.p is None:
            raise ValueError("status ok needs `p`, the probability that the first response beats the second")
        if self.status == "tie" and self.p not in (None, 0.5):
            raise ValueError("a tie has `p` 0.5, or leaves it out")
        if self.status in ("abstain", "error") and self.p is not None:
            raise ValueError(f"status {self.status} has no `p`: a verdict that nobody gave is not a number")
        return self


class VerdictReceipt(Fact):
    """The verdict is durable, or, for an `error`, the comparison is back with whoever asked."""

    id: str
    status: VerdictStatus
    p: float | None


class ComparisonCounts(Fact):
    """`GET /v1/comparisons`: a pull judge's board."""

    judge: str
    judge_revision: str
    open: int
    leased: int
    failed: int = Field(description="that the judge could not answer and nobody has looked at since")
    answered: int = Field(description="verdicts received since Redis was last empty")
    silent_s: float | None = Field(description="since the judge last leased or answered; null: not yet")
