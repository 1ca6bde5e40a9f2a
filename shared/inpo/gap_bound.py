"""A lower bound of the duality gap, from policies that are at hand: it is honest however small tau is.

Any policy p proves gap(pi) >= 2 (P(p ≻ pi) - tau KL(p || ref) + tau KL(pi || ref) - 1/2). The candidates are the
reference policy, earlier versions, and best-of-n: of n responses of the reference, the one that beats most opponents.
Its KL to the reference is at most log n - (n - 1) / n, whatever ranks the responses.

The best of many is flattered by the luck that made it the best. So responses and opponents are halved. The even halves
choose the candidate, and the even opponents rank the responses of the odd half; the responses ranked first meet the
odd opponents. Given the even halves the candidate is one fixed policy and its estimate is unbiased: the interval's
lower end exceeds the gap in at most 2.5 % of all cases, as far as its normal approximation holds. The bound may be far
below the gap.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from shared.inpo.estimators import Interval, mean_of_estimates
from shared.inpo.games import Vector
from shared.inpo.gap_estimate import Comparisons

MIN_GROUPS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Challenger:
    """An earlier version's responses to one prompt: `wins[j]` = P(its response j beats opponent j), NaN where unjudged.

    `log_ratios[j]` are its responses' log-ratios of that version to the reference, in nats.
    """

    wins: Vector
    log_ratios: Vector


@dataclass(frozen=True, slots=True)
class GapBound:
    """`gap` bounds the duality gap from below, `win_rate` is the win rate against pi behind it: 95 %, `num` prompts.

    `found_by` names the candidate: `reference`, `best of 16`, or an earlier version by its own name.
    """

    found_by: str
    win_rate: Interval
    gap: Interval


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A candidate's J - 1/2 and win rate on one prompt, each with its variance: 0 where one response leaves it open."""

    advantage: tuple[float, float]
    win_rate: tuple[float, float]
    num_groups: int


@dataclass(frozen=True, slots=True)
class _Stage:
    """Which halves are read: indices modulo 4 of the ranking opponents, of the opponents met and of the responses."""

    ranking: tuple[int, ...]
    met: tuple[int, ...]
    responses: tuple[int, ...]


_CHOICE = _Stage(ranking=(0,), met=(2,), responses=(0, 2))
_PROOF = _Stage(ranking=(0, 2), met=(1, 3), responses=(1, 3))
_Candidate: TypeAlias = Callable[[int, _Stage], _Outcome | None]


def gap_lower_bound(
    prompts: Sequence[Comparisons], tau: float, challengers: Mapping[str, Sequence[Challenger | None]] | None = None
) -> GapBound | None:
    """The bound by the best candidate; at tau = 0 of the unregularised gap.

    `challengers` holds earlier versions by name, one entry a prompt, None where there are no responses. The result is
    None where there are fewer than four judged responses and opponents, or prompts without comparisons only.
    """
    candidates = _candidates(prompts, tau, challengers or {})
    chosen = {name: bound for name in candidates if (bound := _bound(name, candidates[name], len(prompts), _CHOICE))}
    if not chosen:
        return None
    best = max(chosen, key=lambda name: chosen[name].gap.mean)
    return _bound(best, candidates[best], len(prompts), _PROOF)


def _candidates(
    prompts: Sequence[Comparisons], tau: float, challengers: Mapping[str, Sequence[Challenger | None]]
) -> dict[str, _Candidate]:
    def best_of(size: int) -> _Candidate:
        return lambda number, stage: _best_of(prompts[number], size, tau, stage)

    def earlier(responses: Sequence[Challenger | None]) -> _Candidate:
        return lambda number, stage: _earlier(prompts[number], responses[number], tau, stage)

    most = max((len(prompt.wins) for prompt in prompts), default=0) // 2
    found = {"reference": best_of(1)}
    found |= {f"best of {2**power}": best_of(2**power) for power in range(1, most.bit_length()) if 2**power <= most}
    return found | {name: earlier(responses) for name, responses in challengers.items()}


def _bound(name: str, candidate: _Candidate, num_prompts: int, stage: _Stage) -> GapBound | None:
    found = [outcome for number in range(num_prompts) if (outcome := candidate(number, stage)) is not None]
    if not found or (sum(outcome.num_groups for outcome in found) < MIN_GROUPS):
        return None
    advantage = mean_of_estimates(*zip(*(outcome.advantage for outcome in found), strict=True))
    win_rate = mean_of_estimates(*zip(*(outcome.win_rate for outcome in found), strict=True))
    gap = Interval(2.0 * advantage.mean, 2.0 * advantage.low, 2.0 * advantage.high, advantage.num)
    return GapBound(name, win_rate, gap)


def _best_of(prompt: Comparisons, size: int, tau: float, stage: _Stage) -> _Outcome | None:
    """Groups of `size` responses, of each the one that beats most of the ranking opponents, against those met."""
    ranked = _mean_judged(prompt.wins[:, _among(prompt.wins.shape[1], stage.ranking)], axis=1)
    met = _among(prompt.wins.shape[1], stage.met)
    rows = _among(len(prompt.wins), stage.responses)
    rows = rows[~np.isnan(ranked[rows])]
    num_groups = len(rows) // size
    if num_groups == 0:
        return None
    groups = rows[: num_groups * size].reshape(num_groups, size)
    best = groups[np.arange(num_groups), ranked[groups].argmax(axis=1)]
    met = met[~np.isnan(prompt.wins[np.ix_(best, met)]).all(axis=0)]
    games = prompt.wins[np.ix_(best, met)]
    games = games[~np.isnan(games).all(axis=1)]
    if not games.size:
        return None
    edge: Vector = tau * prompt.log_ratios[met]
    penalty = tau * (math.log(size) - (size - 1) / size)
    return _Outcome(_two_way(games, edge - (penalty + 0.5)), _two_way(games, np.zeros(len(met))), len(games))


def _earlier(prompt: Comparisons, challenger: Challenger | None, tau: float, stage: _Stage) -> _Outcome | None:
    """Response j against opponent j, for the opponents met."""
    if challenger is None:
        return None
    met = _among(prompt.wins.shape[1], stage.met)
    met = met[~np.isnan(challenger.wins[met])]
    if not len(met):
        return None
    wins = challenger.wins[met]
    edge = tau * (prompt.log_ratios[met] - challenger.log_ratios[met]) - 0.5
    return _Outcome(_mean_and_variance(wins + edge), _mean_and_variance(wins), len(met))


def _two_way(games: Vector, edge: Vector) -> tuple[float, float]:
    """Mean of games [K, M] + edge [M], with the variance of a mean over two crossed samples: rows' plus columns'."""
    rows, columns = _mean_judged(games, axis=1), _mean_judged(games, axis=0) + edge
    mean, variance = _mean_and_variance(columns)
    return mean, variance + _mean_and_variance(rows)[1]


def _mean_and_variance(values: Vector) -> tuple[float, float]:
    return float(values.mean()), float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def _mean_judged(games: Vector, axis: int) -> Vector:
    """Means over what is judged; NaN where nothing is."""
    judged = ~np.isnan(games)
    num = judged.sum(axis=axis)
    return np.where(num > 0, np.where(judged, games, 0.0).sum(axis=axis) / np.maximum(num, 1), np.nan)


def _among(num: int, residues: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Indices below `num` whose remainder modulo 4 is one of these."""
    return np.flatnonzero(np.isin(np.arange(num) % 4, residues)).astype(np.int64)
