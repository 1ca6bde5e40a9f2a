"""Estimates with intervals: by hand, at the edges, and by how often they cover the truth."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from shared.inpo.estimators import Interval, kl_estimate, mean_with_interval, win_rate


def test_the_mean_comes_with_1_96_standard_errors() -> None:
    """1, 2, 3: variance 1, standard error 1 / sqrt 3."""
    interval = mean_with_interval([1.0, 2.0, 3.0])
    half_width = 1.959964 / math.sqrt(3.0)
    assert (interval.mean, interval.num) == (2.0, 3)
    assert (interval.low, interval.high) == pytest.approx((2.0 - half_width, 2.0 + half_width))


def test_responses_of_one_prompt_count_once() -> None:
    """Two prompts with two equal responses each: the interval of two values, not of four."""
    clustered = mean_with_interval([0.0, 0.0, 1.0, 1.0], ["p", "p", "q", "q"])
    two = mean_with_interval([0.0, 1.0])
    assert (clustered.low, clustered.high) == pytest.approx((two.low, two.high))
    assert clustered.num == 4


def test_one_value_is_its_own_interval() -> None:
    assert mean_with_interval([0.7]) == Interval(0.7, 0.7, 0.7, 1)


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="values is empty"):
        mean_with_interval([])


@pytest.mark.parametrize("estimate", [mean_with_interval, win_rate, kl_estimate])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_place(
    estimate: Callable[[list[float]], Interval], value: float
) -> None:
    with pytest.raises(ValueError, match=r"values\[1\] must be finite"):
        estimate([0.5, value])


def test_clusters_must_name_every_value() -> None:
    with pytest.raises(ValueError, match="clusters must name the cluster of each of the 2 values, not of 1"):
        mean_with_interval([1.0, 2.0], ["p"])


def test_the_win_rate_of_independent_games_is_wilsons() -> None:
    """8 wins of 10, unbiased variance p q / 9, so 9 effective games.

    z^2 = 3.8415, s = z^2 / 9 = .42683: centre (.8 + s/2) / (1 + s) = .71026,
    half width sqrt(s .16 + s^2 / 4) / (1 + s) = .23652.
    """
    interval = win_rate([1.0] * 8 + [0.0] * 2)
    assert interval.mean == 0.8
    assert (interval.low, interval.high) == pytest.approx((0.71026 - 0.23652, 0.71026 + 0.23652), abs=1e-4)


def test_the_win_rate_of_an_unbeaten_policy_is_not_certain() -> None:
    """10 of 10: Wilson's lower end is n / (n + z^2) = 10 / 13.84; per prompt when prompts repeat."""
    assert win_rate([1.0] * 10).low == pytest.approx(10 / (10 + 3.8415), abs=1e-4)
    assert win_rate([1.0] * 10).high == 1.0
    assert win_rate([1.0] * 10, ["p", "q"] * 5).low == pytest.approx(2 / (2 + 3.8415), abs=1e-4)


def test_ties_only_are_one_half_with_a_width() -> None:
    """No spread among 4 games: as 4 independent games, (1/2) ± z / (2 sqrt(4 + z^2))."""
    half_width = 1.959964 / (2 * math.sqrt(4 + 3.8415))
    interval = win_rate([0.5] * 4)
    assert (interval.low, interval.high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=1e-4)


def test_without_answers_the_win_rate_is_anything() -> None:
    assert win_rate([]) == Interval(0.5, 0.0, 1.0, 0)


def test_one_game_leaves_the_win_rate_wide_open() -> None:
    """Wilson's for n = 1: from 1 / (1 + z^2) = .2065 to 1."""
    interval = win_rate([1.0])
    assert (interval.low, interval.high) == pytest.approx((0.2065, 1.0), abs=1e-4)


def test_repeating_every_game_of_a_prompt_makes_the_win_rate_no_surer() -> None:
    once = win_rate([1.0, 0.0, 1.0, 1.0, 0.0], list("abcde"))
    often = win_rate([1.0, 0.0, 1.0, 1.0, 0.0] * 50, list("abcde") * 50)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert often.num == 250


@pytest.mark.parametrize("answer", [-0.1, 1.5])
def test_an_answer_outside_zero_to_one_is_refused(answer: float) -> None:
    with pytest.raises(ValueError, match=r"answers\[0\] must be in \[0, 1\]"):
        win_rate([answer])


def test_the_kl_of_a_policy_to_itself_is_zero() -> None:
    assert kl_estimate([0.0, 0.0]) == Interval(0.0, 0.0, 0.0, 2)


def test_the_kl_estimate_is_right_on_known_distributions() -> None:
    """Samples of p = (.8, .2) against q = (.5, .5): KL = .8 log 1.6 + .2 log .4 = .19274."""
    rng = np.random.default_rng(3)
    first = rng.random(20_000) < 0.8
    interval = kl_estimate([math.log(1.6) if hit else math.log(0.4) for hit in first])
    assert interval.low < 0.19274 < interval.high
    assert interval.high - interval.low < 0.02


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.97])
def test_the_win_rates_interval_covers_the_truth_about_as_often_as_it_says(rate: float) -> None:
    """40 prompts of 4 responses, prompts differing (beta distributed rates): 95 %, and never below 90 %."""
    rng = np.random.default_rng(5)
    clusters = [prompt for prompt in range(40) for _ in range(4)]
    covered = 0
    for _ in range(400):
        rates = rng.beta(4 * rate, 4 * (1 - rate), size=40)
        wins = (rng.random((40, 4)) < rates[:, None]).astype(float)
        interval = win_rate([float(win) for win in wins.ravel()], clusters)
        covered += interval.low <= rate <= interval.high
    assert covered / 400 > 0.9
