"""The duality gap of a policy that can only be sampled: an estimate with its interval, and a bound where there is none.

    gap(pi) = 2 (tau log E_{y ~ ref} exp(P(y ≻ pi) / tau) + tau KL(pi || ref) - 1/2)              INPO, Eq. 3 and 4

The maximum over policies is a free energy, so that it needs no search, only samples: n responses y_i of the reference
policy and m opponents y'_j of pi, two sets that all comparisons share, and log pi(y'_j) - log ref(y'_j).

    theta = tau log (1/n) sum_i W_i + tau mean_j l_j,    W_i = exp(P_i / tau),    P_i = mean_j P(y_i ≻ y'_j)

**Interval.** theta is a smooth function of two independent samples. To first order its error is the mean of
tau (W_i / mean W - 1) over responses plus that of sum_i w_i P(y_i ≻ y'_j) + tau l_j, centred, over opponents, where
w = W / sum W. The second term is common to all responses: it does not shrink with n, and opponents redrawn for every
response hide it inside the exponential. The jackknife over responses and the jackknife over opponents estimate the
two variances, which add up; the cross term is of order 1 / (n m). A judge's own noise is part of the second one.

**Bias.** Jensen's inequality pulls both ways: - tau (1 / ESS - 1 / n) / 2 from n responses, with the effective sample
size ESS = (sum W)^2 / sum W^2, and + mean_j Var_{i ~ w}(P(y_i ≻ y'_j) - P_i) / (2 tau m) from m opponents; the gap has
twice that. The jackknives remove both up to the next order, tau / ESS^2 and 1 / (tau^3 m^2). At the Nash policy of the
cycle .95/.9/.8 with 128 x 128 they remove .005 at tau = .1 and leave less than .001; .0125 at tau = .05, and leave
.0015.

**Refusal.** Where ESS is small, a few responses are all that is known of the expectation and better ones are likely to
be missing: estimate and interval come out too low. In a game of 20,000 responses at tau = .0025, 128 of them are worth
1.2 and the interval covers the gap in 64 of 100 cases; 1,024 are worth 2, and it does in 84. Below
`MIN_EFFECTIVE_SAMPLES`, for any prompt, there is no estimate. No sample shows what it does not contain: a response
rarer than 1 / n that wins by many tau more than all others stays unseen by ESS, too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.inpo.estimators import Interval, mean_of_estimates
from shared.inpo.games import Vector

MIN_EFFECTIVE_SAMPLES = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """What is known of one prompt: `wins[i, j]` = P(reference's response i beats opponent j), NaN where unjudged.

    `log_ratios[j]` = log pi(opponent j) - log ref(opponent j), in nats. Both samples at temperature 1.
    """

    wins: Vector
    log_ratios: Vector

    def __post_init__(self) -> None:
        if self.wins.ndim != 2 or self.log_ratios.shape != (self.wins.shape[1],):
            raise ValueError(
                f"wins must be of shape [responses, opponents] and log_ratios of shape [opponents], "
                f"not {self.wins.shape} and {self.log_ratios.shape}"
            )
        judged = self.wins[~np.isnan(self.wins)]
        if not np.all((judged >= 0.0) & (judged <= 1.0)):
            raise ValueError("wins must be probabilities in [0, 1], or NaN where there is no verdict")
        if not np.all(np.isfinite(self.log_ratios)):
            raise ValueError("log_ratios must be finite")


@dataclass(frozen=True, slots=True)
class GapEstimate:
    """The gap, averaged over prompts, with its 95 % interval (`num` prompts). Near 0 the mean may be slightly negative.

    `effective_samples` is the smallest one of any prompt.
    """

    interval: Interval
    effective_samples: float


@dataclass(frozen=True, slots=True)
class GapRefusal:
    """Why there is no estimate; `effective_samples` is None where tau or the samples leave it undefined."""

    reason: str
    effective_samples: float | None


def sides(num_responses: int, *, of_itself: bool) -> tuple[range, range]:
    """Which of a policy's responses are the opponents, and which of the reference's the responses that they meet.

    All against all. For the gap of the reference itself there is one sample, and its two halves meet: a response that
    met itself would be in both sums.
    """
    if of_itself:
        return range(1, num_responses, 2), range(0, num_responses, 2)
    return range(num_responses), range(num_responses)


def duality_gap(prompts: Sequence[Comparisons], tau: float) -> GapEstimate | GapRefusal:
    """The mean gap over the prompts.

    The interval covers the mean gap of these prompts; where the prompts differ by more than sampling explains, it is
    the wider one, of the prompts that they are a sample of. A response or opponent without verdicts is left out.
    """
    if not tau > 0.0:
        return GapRefusal("at tau = 0 the best response is a maximum over all responses: no sample estimates it", None)
    judged = [_judged(prompt) for prompt in prompts]
    if not judged or any(min(prompt.wins.shape) < 2 for prompt in judged):
        return GapRefusal("the gap needs two judged responses and two judged opponents a prompt", None)
    effective = min(_effective_samples(prompt, tau) for prompt in judged)
    if effective < MIN_EFFECTIVE_SAMPLES:
        return GapRefusal(
            f"{effective:.1f} effective samples, {MIN_EFFECTIVE_SAMPLES:g} are needed: at tau = {tau:g} a few of the "
            "reference's responses outweigh all others; raise evaluation.num_responses or read the lower bound",
            effective,
        )
    estimates = [_jackknifed(prompt, tau) for prompt in judged]
    return GapEstimate(
        mean_of_estimates([mean for mean, _ in estimates], [variance for _, variance in estimates]), effective
    )


def _judged(prompt: Comparisons) -> Comparisons:
    """Without opponents that were never judged, then without responses that were judged against fewer than two."""
    known = ~np.isnan(prompt.wins)
    columns = known.any(axis=0)
    wins = prompt.wins[:, columns]
    rows = (~np.isnan(wins)).sum(axis=1) >= 2
    return Comparisons(wins[rows], prompt.log_ratios[columns])


def _effective_samples(prompt: Comparisons, tau: float) -> float:
    rates = np.nanmean(prompt.wins, axis=1)
    weights = np.exp((rates - rates.max()) / tau)
    return float(weights.sum() ** 2 / (weights**2).sum())


def _jackknifed(prompt: Comparisons, tau: float) -> tuple[float, float]:
    """The prompt's gap, without its biases of first order, and the variance of that."""
    known = ~np.isnan(prompt.wins)
    wins, counts = np.where(known, prompt.wins, 0.0), known.sum(axis=1)
    n, m = wins.shape
    scaled = wins.sum(axis=1) / counts / tau
    top = float(scaled.max())
    weights, kl = np.exp(scaled - top), float(prompt.log_ratios.mean())
    whole = tau * (top + math.log(float(weights.mean())) + kl)
    without_response = tau * (top + np.log((weights.sum() - weights) / (n - 1)) + kl)
    rates = (wins.sum(axis=1, keepdims=True) - wins) / (counts[:, None] - known)
    without_kl = (prompt.log_ratios.sum() - prompt.log_ratios) / (m - 1)
    without_opponent = tau * (np.logaddexp.reduce(rates / tau, axis=0) - math.log(n) + without_kl)
    bias, variance = 0.0, 0.0
    for values in (without_response, without_opponent):
        size = len(values)
        bias += (size - 1) * (float(values.mean()) - whole)
        variance += (size - 1) * float(values.var())
    return 2.0 * (whole - bias - 0.5), 4.0 * variance
