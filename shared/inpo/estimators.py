"""Estimates from samples, each with a 95 % confidence interval.

Responses to one prompt resemble one another, so samples come in clusters (prompts), and a cluster counts as one
independent observation. Intervals are normal approximations over clusters: with fewer than about twenty, a rough guide.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % confidence interval, over `num` samples. All three numbers are finite."""

    mean: float
    low: float
    high: float
    num: int


def mean_with_interval(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Interval:
    """The mean of any finite numbers, with mean ± 1.96 standard errors over clusters (default: each its own).

    A single cluster shows no spread, and its interval is the mean itself: look at `num`. No values at all, or one that
    is not finite, is a ValueError.
    """
    _check(values, clusters)
    if not values:
        raise ValueError("values is empty: there is no mean to estimate")
    mean = math.fsum(values) / len(values)
    half_width = Z95 * math.sqrt(_variance_of_mean(values, mean, clusters) or 0.0)
    return Interval(mean, mean - half_width, mean + half_width, len(values))


def win_rate(answers: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Interval:
    """The mean of answers in [0, 1] with Wilson's interval, which stays inside [0, 1] and is never of width 0.

    It is Wilson's for as many independent wins and losses as have the clusters' standard error, never more than there
    are answers; where the answers show no spread (all won, or one prompt), for one win or loss a cluster. No answers:
    1/2 in [0, 1], with `num` 0.
    """
    _check(answers, clusters)
    for index, answer in enumerate(answers):
        if not 0.0 <= answer <= 1.0:
            raise ValueError(f"answers[{index}] must be in [0, 1], not {answer}")
    if not answers:
        return Interval(0.5, 0.0, 1.0, 0)
    mean = math.fsum(answers) / len(answers)
    variance = _variance_of_mean(answers, mean, clusters)
    if variance:
        independent = min(float(len(answers)), mean * (1.0 - mean) / variance)
    else:
        independent = float(len(set(clusters)) if clusters is not None else len(answers))
    low, high = _wilson(mean, independent)
    return Interval(mean, low, high, len(answers))


def kl_estimate(log_ratios: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Interval:
    """KL(pi || ref) in nats a response, from log pi(y) - log ref(y) of responses y sampled from pi at temperature 1.

    The plain mean: unbiased at any distance, so it may come out slightly negative near 0. Estimators that are never
    negative need rare responses with large weights once the policies are some nats apart.
    """
    return mean_with_interval(log_ratios, clusters)


def mean_of_estimates(means: Sequence[float], variances: Sequence[float]) -> Interval:
    """The mean of independent estimates, one a cluster, each with its variance (0 where that is unknown).

    The interval covers the mean over these clusters; where they differ by more than their own variances explain, it is
    the wider one, for the clusters that they are a sample of. No estimates at all is a ValueError.
    """
    between = mean_with_interval(means)
    within = Z95 * math.sqrt(math.fsum(variances)) / len(means)
    half_width = max(between.high - between.mean, within)
    return Interval(between.mean, between.mean - half_width, between.mean + half_width, len(means))


def _variance_of_mean(values: Sequence[float], mean: float, clusters: Sequence[Hashable] | None) -> float | None:
    """Of the clusters' sums of deviations; None when a single cluster leaves it unknown."""
    names = range(len(values)) if clusters is None else clusters
    deviations: dict[Hashable, float] = {}
    for name, value in zip(names, values, strict=True):
        deviations[name] = deviations.get(name, 0.0) + value - mean
    num = len(deviations)
    if num < 2:
        return None
    return num / (num - 1) * math.fsum(row**2 for row in deviations.values()) / len(values) ** 2


def _wilson(mean: float, num: float) -> tuple[float, float]:
    shrink = Z95**2 / num
    centre = (mean + shrink / 2.0) / (1.0 + shrink)
    half_width = math.sqrt(shrink * mean * (1.0 - mean) + shrink**2 / 4.0) / (1.0 + shrink)
    # Rounding must not push the mean out of its own interval.
    return max(0.0, min(mean, centre - half_width)), min(1.0, max(mean, centre + half_width))


def _check(values: Sequence[float], clusters: Sequence[Hashable] | None) -> None:
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"clusters must name the cluster of each of the {len(values)} values, not of {len(clusters)}")
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise ValueError(f"values[{index}] must be finite, not {value}")
