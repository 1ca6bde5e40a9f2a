"""Who may answer comparisons, as a run's specification and the oracle's API name them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from shared.contracts.base import Input


class RulesJudge(Input):
    """A judge in Python: a callable found by its entry point."""

    kind: Literal["rules"] = "rules"
    entry_point: str = Field(description="`module:factory`; the factory gets `params` and returns a rule.")
    params: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the factory.")


class RewardModelJudge(Input):
    """A Hugging Face sequence classifier with one label; Bradley-Terry: P(a beats b) = sigmoid(r_a - r_b)."""

    kind: Literal["reward_model"] = "reward_model"
    path: str
    revision: str | None = None
    max_tokens: int = Field(default=2048, ge=16, description="A longer conversation is an abstention, never cut.")
    batch_size: int = Field(default=16, ge=1)


class PairModelJudge(Input):
    """A causal language model that answers A or B (RLHFlow's pair-preference format)."""

    kind: Literal["pair_model"] = "pair_model"
    path: str
    revision: str | None = None
    max_tokens: int = Field(default=3072, ge=16, description="A longer question is an abstention, never cut.")
    batch_size: int = Field(default=16, ge=1)


LocalJudgeSpec = Annotated[RulesJudge | RewardModelJudge | PairModelJudge, Field(discriminator="kind")]
JudgeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:/-]{0,199}$")]
Order = Literal["both", "given"]


class HttpJudge(Input):
    """A judge behind a URL: anything that answers `POST /v1/judgments`, see docs/judges.md."""

    kind: Literal["http"] = "http"
    url: str = Field(
        pattern=r"^https?://", max_length=2048, description="Its /v1/judgments; INPO_ORACLE_HTTP_JUDGES must allow it."
    )
    judge: JudgeName | dict[str, Any] | None = Field(
        default=None, description="What to ask for there: a name, or a judge's specification where it builds judges."
    )
    judge_revision: str | None = Field(
        default=None,
        max_length=200,
        description="The revision that must answer; by default whichever answers first.",
    )
    order: Order = Field(default="both", description="`both` averages over positions; `given` asks once.")
    max_batch: int = Field(default=32, ge=1, le=256, description="Comparisons a request.")
    max_concurrency: int = Field(default=4, ge=1, le=64, description="Requests under way at once, an oracle process.")
    max_requests_per_minute: float | None = Field(
        default=None, gt=0.0, description="Budget shared by all oracle processes; none by default."
    )
    timeout_s: float = Field(default=60.0, gt=0.0, le=3600.0, description="A request that takes longer is given up.")
    deadline_s: float = Field(
        default=120.0, gt=0.0, le=3600.0, description="After this long without an answer the judge is unavailable."
    )


class PullJudge(Input):
    """A judge that fetches its comparisons and posts verdicts: people, labelling tools. See docs/judges.md."""

    kind: Literal["pull"] = "pull"
    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]{0,63}$", description="Under which it leases comparisons.")
    revision: str = Field(
        default="1", pattern=r"^[A-Za-z0-9][\w.-]{0,63}$", description="Change it when its answers would."
    )
    order: Order = Field(default="both", description="`both` asks every comparison twice, positions exchanged.")


MemberJudge = Annotated[
    RulesJudge | RewardModelJudge | PairModelJudge | HttpJudge | PullJudge, Field(discriminator="kind")
]


class PanelMember(Input):
    """A judge of a panel."""

    judge: MemberJudge
    weight: float = Field(default=1.0, gt=0.0, le=1e9, description="Its share of the panel, up to scale.")


class PanelJudge(Input):
    """Several judges; the preference is the weighted mean of theirs.

    A member that fails fails the comparison: the others are never taken for the whole panel.
    """

    kind: Literal["panel"] = "panel"
    members: list[PanelMember] = Field(min_length=2, max_length=32)


JudgeSpec = Annotated[
    RulesJudge | RewardModelJudge | PairModelJudge | HttpJudge | PullJudge | PanelJudge, Field(discriminator="kind")
]


def judges_of(spec: JudgeSpec) -> dict[str, MemberJudge]:
    """The judges that answer in the end, by the field that holds them, counted from `judge`."""
    if isinstance(spec, PanelJudge):
        return {f"judge.members.{index}.judge": member.judge for index, member in enumerate(spec.members)}
    return {"judge": spec}
