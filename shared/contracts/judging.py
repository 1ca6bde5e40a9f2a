"""REST bodies of `POST /v1/judgments`: questions to a judge and its answers, matched by ids."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.contracts.base import Fact, Input
from shared.contracts.records import Message, VerdictStatus
from shared.contracts.spec import JudgeSpec

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


class JudgmentRequest(Input):
    """A batch of comparisons for one judge."""

    judge: JudgeSpec
    judge_revision: str | None = Field(
        default=None, description="Refuse to answer (409) when the judge's revision differs."
    )
    answers: Literal["binary", "probability"] = "probability"
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the draws, when answers are binary")
    items: list[JudgmentItem] = Field(min_length=1, max_length=256)


class JudgeIdentity(Fact):
    """Which judge answered. The revision changes with the model, the template and the decoding parameters."""

    id: str
    revision: str
    kind: str
    transitive: bool = Field(description="one scalar a response explains all its answers")


class JudgmentResult(Fact):
    """One comparison answered. `p` = P(first beats second), null unless status is `ok` or `tie`."""

    item_id: str
    pair: tuple[str, str]
    status: VerdictStatus
    p: float | None
    p_given: float | None
    p_swapped: float | None = Field(description="P(first beats second) as seen with the positions exchanged")
    answer: float | None = Field(description="the oracle's answer: a seeded draw from p, or p itself")
    latency_s: float
    error: str | None = None


class JudgmentResponse(Fact):
    """Every pair of the request answered exactly once."""

    judge: JudgeIdentity
    results: list[JudgmentResult]
