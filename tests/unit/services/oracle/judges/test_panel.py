"""A panel's answer is the weighted mean of its members', or none at all."""

from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from services.oracle.judge import Comparison, Judge, JudgeUnavailableError, Opinion, build_judge, opinion
from services.oracle.judges.panel import Member, Panel, build_panel
from shared.contracts.judges import MemberJudge, PanelJudge, RulesJudge, judges_of
from shared.contracts.rest.judging import JudgeIdentity
from tests.support.fake_judge import FakeJudge


class Ranking:
    """Prefers by rank with certainty; a transitive judge without positions, asked `num_asked` comparisons so far."""

    def __init__(self, order: str, revision: str = "1") -> None:
        self.order = order
        self.num_asked = 0
        self._revision = revision

    def identity(self) -> JudgeIdentity:
        return JudgeIdentity(id=f"ranking:{self.order}", revision=f"{self.order}-{self._revision}", kind="rules")

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        self.num_asked += len(comparisons)
        return [opinion(float(self.order.index(c.first) < self.order.index(c.second)), None, 0.5) for c in comparisons]


class Away(Ranking):
    """Cannot be asked until `back`."""

    back = False

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        if not self.back:
            raise JudgeUnavailableError("out to lunch")
        return super().compare(comparisons)


def questions(*pairs: str) -> list[Comparison]:
    return [Comparison([], first, second) for first, second in pairs]


def panel(*members: tuple[Judge, float]) -> Panel:
    return Panel([Member(judge, share) for judge, share in members])


def test_three_transitive_judges_make_a_cyclic_panel() -> None:
    """Condorcet: abc, bca, cab. Two of three prefer a to b, b to c and c to a."""
    judges = panel(*((Ranking(order), 1 / 3) for order in ("abc", "bca", "cab")))
    opinions = judges.compare(questions("ab", "bc", "ca"))
    assert [one.probability for one in opinions] == pytest.approx([2 / 3] * 3)
    assert [one.latency_s for one in opinions] == [1.5] * 3
    assert not judges.identity().transitive


def test_weights_are_shares_of_the_population() -> None:
    spec = PanelJudge.model_validate(
        {"members": [{"judge": _rule("longer_is_better", strength=0.9), "weight": 3}, {"judge": _rule("constant")}]}
    )
    with pytest.raises(ValueError, match="entry_point"):
        build_panel(spec, build_judge)
    (answer,) = build_panel(spec, _build).compare([Comparison([], "xx", "x")])
    # 3/4 of .9, and 1/4 of a rule that always prefers what is shown first: .5 once both orders are averaged.
    assert answer.probability == pytest.approx(0.75 * 0.9 + 0.25 * 0.5)
    assert answer.probability_given == pytest.approx(0.75 * 0.9 + 0.25 * 1.0)


def test_one_failing_member_fails_the_comparison_and_no_other() -> None:
    """Were the other taken for the whole panel, the comparison would be another population's."""
    judges = panel((Ranking("ab"), 0.9), (FakeJudge(failures=1), 0.1))
    failed, again = judges.compare(questions("ab"))[0], judges.compare(questions("ab"))[0]
    assert (failed.status, failed.probability, failed.error) == ("error", None, "fake: HTTP 503")
    assert (again.status, again.probability) == ("ok", pytest.approx(0.9 * 1.0 + 0.1 * 0.5))


def test_an_abstaining_member_makes_the_panel_abstain() -> None:
    judges = panel((Ranking("ab"), 0.5), (FakeJudge(unanswerable="a"), 0.5))
    (answer,) = judges.compare(questions("ab"))
    assert (answer.status, answer.probability) == ("abstain", None)


def test_what_was_answered_is_not_asked_again_when_another_member_was_away() -> None:
    made: dict[str, Ranking] = {}

    def build(spec: MemberJudge) -> Judge:
        assert isinstance(spec, RulesJudge)
        name = spec.entry_point
        return made.setdefault(name, Away("ab") if name == "away" else Ranking("ab"))

    judges = build_panel(
        PanelJudge.model_validate(
            {"members": [{"judge": {"kind": "rules", "entry_point": name}} for name in ("here", "away")]}
        ),
        build,
    )
    with pytest.raises(JudgeUnavailableError):
        judges.compare(questions("ab"))
    away = made["away"]
    assert isinstance(away, Away)
    away.back = True
    assert judges.compare(questions("ab"))[0].probability == 1.0
    assert (made["here"].num_asked, away.num_asked) == (1, 1)


def test_the_revision_follows_members_and_shares_but_not_their_order() -> None:
    one, other = Ranking("ab"), Ranking("ba")
    revision = panel((one, 0.25), (other, 0.75)).identity().revision
    assert panel((other, 0.75), (one, 0.25)).identity().revision == revision
    assert panel((one, 0.75), (other, 0.25)).identity().revision != revision
    assert panel((Ranking("ab", revision="2"), 0.25), (other, 0.75)).identity().revision != revision


def test_a_panel_needs_two_members_and_holds_no_panels() -> None:
    member = {"judge": _rule("constant")}
    with pytest.raises(ValidationError, match="at least 2"):
        PanelJudge.model_validate({"members": [member]})
    with pytest.raises(ValidationError, match="kind"):
        PanelJudge.model_validate({"members": [member, {"judge": {"kind": "panel", "members": [member, member]}}]})
    spec = PanelJudge.model_validate({"members": [member, member]})
    assert list(judges_of(spec)) == ["judge.members.0.judge", "judge.members.1.judge"]


def _rule(name: str, **params: float) -> dict[str, object]:
    module = "rules" if name == "longer_is_better" else "odd_rules"
    return {
        "kind": "rules",
        "entry_point": f"tests.support.{module}:{name}",
        "params": params or {"value": 1.0},
    }


def _build(spec: MemberJudge) -> Judge:
    return build_judge(spec, entry_points=["tests.support."])
