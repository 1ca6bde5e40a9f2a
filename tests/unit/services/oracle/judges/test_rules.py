"""Rules as judges: both orders, every way to misbehave, and what makes a revision."""

import math

import pytest

from services.oracle.judge import Comparison, Judge, JudgeBuildError, build_judge
from shared.contracts.judges import RulesJudge
from shared.contracts.records import Message
from shared.contracts.text_limits import MAX_MATCHED_BYTES

PROMPT = [Message(role="user", content="which?")]
LONGER = "tests.support.rules:longer_is_better"


def judge_of(entry_point: str, **params: object) -> Judge:
    return build_judge(RulesJudge(entry_point=entry_point, params=params), entry_points=[""])


def test_an_antisymmetric_rule_answers_the_same_in_both_orders() -> None:
    [opinion] = judge_of(LONGER, strength=0.75).compare([Comparison(PROMPT, "long", "a")])
    assert opinion.status == "ok"
    assert (opinion.probability_given, opinion.probability_swapped, opinion.probability) == (0.75, 0.75, 0.75)


def test_a_rule_is_not_given_more_than_a_mebibyte() -> None:
    """A rule that takes the square of a length would hold the interpreter for days; bytes are counted at once."""
    judge = judge_of(LONGER)
    most = MAX_MATCHED_BYTES - len("which?") - 1
    fits, exceeds = judge.compare([Comparison(PROMPT, "x" * most, "y"), Comparison(PROMPT, "\N{SNOWMAN}" * most, "y")])
    assert fits.status == "ok"
    assert (exceeds.status, exceeds.probability) == ("abstain", None)
    assert f"have {3 * most + 7} bytes" in str(exceeds.error)


def test_position_bias_is_averaged_out_and_remains_visible() -> None:
    """A rule that always says 0.7 for the first has no preference: (0.7 + (1 - 0.7)) / 2 = 1/2, a tie."""
    [opinion] = judge_of("tests.support.odd_rules:constant", value=0.7).compare([Comparison(PROMPT, "x", "y")])
    assert opinion.probability_given == 0.7
    assert opinion.probability_swapped == pytest.approx(0.3)
    assert opinion.probability == 0.5
    assert opinion.status == "tie"


def test_a_rule_that_raises_fails_that_comparison_only() -> None:
    """Raising happens where `bad` comes first, in either order asked."""
    judge = judge_of("tests.support.odd_rules:raising", when="bad")
    opinions = judge.compare([Comparison(PROMPT, "bad", "x"), Comparison(PROMPT, "x", "y")])
    assert [opinion.status for opinion in opinions] == ["error", "tie"]
    assert opinions[0].error == "the rule raised LookupError: no idea about bad"
    assert opinions[0].probability is None


@pytest.mark.parametrize("value", [math.inf, -0.1, 1.1])
def test_what_is_no_probability_is_an_error_and_never_a_label(value: float) -> None:
    [opinion] = judge_of("tests.support.odd_rules:constant", value=value).compare([Comparison(PROMPT, "x", "y")])
    assert (opinion.status, opinion.probability) == ("error", None)
    assert "not a probability" in str(opinion.error)


def test_nan_and_text_are_errors_and_none_is_an_abstention() -> None:
    statuses = [
        judge_of(f"tests.support.odd_rules:{name}", **params).compare([Comparison(PROMPT, "x", "y")])[0].status
        for name, params in (("not_a_number", {}), ("texts", {}), ("constant", {"value": None}))
    ]
    assert statuses == ["error", "error", "abstain"]


def test_the_revision_changes_with_the_parameters() -> None:
    revisions = {judge_of(LONGER, strength=strength).identity().revision for strength in (0.8, 0.9, 0.9)}
    assert len(revisions) == 2


@pytest.mark.parametrize(
    ("entry_point", "params", "field"),
    [
        ("no_colon", {}, "entry_point"),
        ("no.such.module:build", {}, "entry_point"),
        ("tests.support.rules:absent", {}, "entry_point"),
        ("tests.support.odd_rules:no_rule", {}, "entry_point"),
        (LONGER, {"strenght": 0.9}, "params"),
    ],
)
def test_a_rule_that_cannot_be_made_is_refused_naming_the_field(
    entry_point: str, params: dict[str, object], field: str
) -> None:
    with pytest.raises(JudgeBuildError) as caught:
        judge_of(entry_point, **params)
    assert caught.value.field == field
