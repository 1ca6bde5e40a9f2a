"""The demo's readers: which answers they know, and how often they prefer one."""

import pytest

from services.oracle.judge import Comparison, build_judge
from services.oracle.rules.styles import (
    INVALID,
    TOPICS,
    answers,
    cyclic_panel,
    preference_matrix,
    question,
    style_of,
)
from shared.contracts.judges import RulesJudge
from shared.contracts.records import Message

SUN = "What is the sun?"
PLAIN, POETIC, PIRATE = (
    "The sun is a warm star.",
    "O warm sun, sweet star of my dreams!",
    "Arr, matey, the sun be a warm star!",
)


def asked(text: str = SUN) -> list[Message]:
    return [Message(role="system", content="be brief"), Message(role="user", content=text)]


def test_every_well_formed_answer_has_its_style() -> None:
    for topic in TOPICS:
        for style in (1, 2, 3):
            assert {style_of(question(topic), answer) for answer in answers(topic, style)} == {style}
    assert [style_of(SUN, text) for text in (PLAIN, POETIC, PIRATE)] == [1, 2, 3]


@pytest.mark.parametrize(
    "response",
    [
        "",
        "The sun is a warm",
        "The sun is a warm star",
        PLAIN + " " + PLAIN,
        "the sun is a warm star.",
        "The moon is a pale lamp.",
        "The sun is a pale star.",
        "Arr, matey, the sun is a warm star!",
        "The sun  is a warm star.",
    ],
)
def test_what_is_cut_mixed_repeated_or_about_another_topic_is_invalid(response: str) -> None:
    assert style_of(SUN, response) == INVALID


def test_an_unknown_question_has_no_valid_answer() -> None:
    assert style_of("What is the meaning of life?", PLAIN) == INVALID


def test_the_majority_is_cyclic_and_invalid_responses_lose() -> None:
    """The demo's game: 1 beats 2 with .95, 2 beats 3 with .9, 3 beats 1 with .8, every style beats invalid with .95."""
    rule = cyclic_panel()
    assert rule(asked(), PLAIN, POETIC) == 0.95
    assert rule(asked(), POETIC, PIRATE) == 0.9
    assert rule(asked(), PIRATE, PLAIN) == 0.8
    for text in (PLAIN, POETIC, PIRATE):
        assert rule(asked(), text, "gibberish") == 0.95
        assert rule(asked(), "gibberish", text) == pytest.approx(0.05)
    assert rule(asked(), "gibberish", "other gibberish") == 0.5
    assert rule(asked(), PLAIN, "The sun is a bright star.") == 0.5


def test_the_matrix_is_antisymmetric_and_follows_its_parameters() -> None:
    matrix = preference_matrix(0.7, 0.6, 0.9, 1.0)
    for first in range(4):
        for second in range(4):
            assert matrix[first][second] + matrix[second][first] == pytest.approx(1.0)
    assert (matrix[1][2], matrix[2][3], matrix[3][1], matrix[1][0]) == (0.7, 0.6, 0.9, 1.0)


def test_a_parameter_that_is_no_probability_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"P\(poetic beats pirate\) must lie in \[0, 1\], not 1.5"):
        cyclic_panel(second_over_third=1.5)


def test_the_oracle_builds_the_panel_from_its_entry_point() -> None:
    spec = RulesJudge(entry_point="services.oracle.rules.styles:cyclic_panel", params={"third_over_first": 0.75})
    [opinion] = build_judge(spec).compare([Comparison(asked(), PIRATE, PLAIN)])
    assert (opinion.status, opinion.probability) == ("ok", 0.75)
