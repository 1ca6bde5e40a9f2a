"""The oracle's answers: draws from P that anybody can repeat."""

import math

import pytest

from services.oracle.verdicts.answers import answer_of


def test_the_mean_over_draws_is_the_probability() -> None:
    """4,000 draws at P = 0.7 have a standard error of 0.0072; four of them are allowed."""
    draws = [answer_of("binary", 0.7, "draw", 7, "step", "p0", 0, 1, draw) for draw in range(4000)]
    assert set(draws) == {0.0, 1.0}
    mean = sum(draw for draw in draws if draw is not None) / len(draws)
    assert mean == pytest.approx(0.7, abs=4 * math.sqrt(0.7 * 0.3 / 4000))


def test_equal_askings_draw_equally_and_certain_ones_always_the_same() -> None:
    for draw in range(50):
        parts = ("draw", 7, "step", "p0", 0, 1, draw)
        assert answer_of("binary", 0.5, *parts) == answer_of("binary", 0.5, *parts)
        assert answer_of("binary", 1.0, *parts) == 1.0
        assert answer_of("binary", 0.0, *parts) == 0.0


def test_probability_mode_answers_the_probability_and_no_verdict_has_no_answer() -> None:
    assert answer_of("probability", 0.3, "draw", 0) == 0.3
    assert answer_of("probability", None, "draw", 0) is None
    assert answer_of("binary", None, "draw", 0) is None
