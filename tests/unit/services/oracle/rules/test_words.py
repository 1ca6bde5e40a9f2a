"""The reader who likes real words."""

import pytest

from services.oracle.judge import Comparison, build_judge
from services.oracle.rules.words import SIMPLE_ENGLISH, known_word_share, share_found
from shared.contracts.judges import RulesJudge
from shared.contracts.records import Message
from tests.support.data import outside_data

PROMPT = [Message(role="user", content="Once upon a time")]


def test_the_larger_share_of_known_words_wins_and_equal_shares_tie() -> None:
    rule = known_word_share()
    assert rule(PROMPT, "The dog ran home.", "The dxg ran home.") == 1.0
    assert rule(PROMPT, "The dxg ran home.", "The dog ran home.") == 0.0
    assert rule(PROMPT, "The dog", "A happy little cat") == 0.5


def test_a_share_counts_words_whatever_their_case_with_the_usual_endings() -> None:
    """The, dog's and jumped are found (the last two by their endings), xqz is not: 3 of 4."""
    assert share_found("The DOG'S jumped xqz!", SIMPLE_ENGLISH) == 0.75


def test_a_response_without_words_has_no_share_and_loses() -> None:
    rule = known_word_share()
    for empty in ("", " ", "... 123 !"):
        assert share_found(empty, SIMPLE_ENGLISH) == 0.0
        assert rule(PROMPT, "the xqz", empty) == 1.0


def test_another_list_replaces_the_own_one() -> None:
    rule = known_word_share(["Alpha", "beta"])
    assert rule(PROMPT, "alpha BETA", "the dog") == 1.0


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="words is empty"):
        known_word_share([])


def test_real_stories_are_mostly_known_words_and_scrambled_ones_are_not() -> None:
    """Of five published children's stories more than 85 words in 100 are found; reversed, few are."""
    story = outside_data("tiny_model/tinystories_sample.txt").read_text().replace("<|endoftext|>", "")
    assert share_found(story, SIMPLE_ENGLISH) > 0.85
    assert share_found(" ".join(word[::-1] for word in story.split()), SIMPLE_ENGLISH) < 0.3


def test_the_oracle_builds_it_from_its_entry_point() -> None:
    spec = RulesJudge(entry_point="services.oracle.rules.words:known_word_share")
    [opinion] = build_judge(spec).compare([Comparison(PROMPT, "the dog", "the dxg")])
    assert (opinion.status, opinion.probability) == ("ok", 1.0)
