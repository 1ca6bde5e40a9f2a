"""The reader who likes real words."""

import pytest

from services.oracle.rules import words


def test_the_larger_share_of_known_words_wins() -> None:
    """First 3 of 4 words, second 1 of 2; the endings of listed words count."""
    rule = words.build()
    assert words.share_found("The dog's jumped xqz", words.SIMPLE_ENGLISH) == 0.75
    assert rule([], "The dog's jumped xqz", "the blorp") == 1.0
    assert rule([], "the blorp", "The dog's jumped xqz") == 0.0
    assert rule([], "the blorp", "a frump") == 0.5
    assert rule([], "", "123 !") == 0.5


def test_sharpness_makes_the_preference_a_probability() -> None:
    """sigmoid(2 (1 - 1/2)) = 0.7311."""
    rule = words.build(words=["Yes"], sharpness=2.0)
    assert rule([], "yes", "yes no") == pytest.approx(0.731059, abs=1e-6)
    with pytest.raises(ValueError, match="sharpness"):
        words.build(sharpness=0.0)


def test_real_stories_are_mostly_known_words_and_scrambled_ones_are_not() -> None:
    story = "Once upon a time there was a little girl named Lily. She loved to play outside in the sunshine."
    assert words.share_found(story, words.SIMPLE_ENGLISH) > 0.85
    assert words.share_found(" ".join(word[::-1] for word in story.split()), words.SIMPLE_ENGLISH) < 0.3
