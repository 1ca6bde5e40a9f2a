"""Whether an algorithm's last iterate settles near the Nash policy of a cyclic game: theory, without a game at hand.

Close to its fixed point an algorithm is linear in z = log pi - log pi*. P - 1/2 is antisymmetric, so that under the
covariance of pi* its eigenvalues are imaginary, ± i w, and along such a mode every regression of a plan is

    z_new = sum_k exponent_k z_k + (i w / scale) z_mu          the reference's z is 0, mu is the sampling policy

The iterate settles if and only if the recursion over iterations shrinks. For INPO it multiplies z by
1 + (i w - tau) / eta, which shrinks iff eta > (w^2 + tau^2) / (2 tau).

**The worst game.** w is the largest |E r r' (P(y ≻ y') - 1/2) sin(theta - theta')| of a mode r e^(i theta), E r^2 = 1.
With |P - 1/2| <= 1/2 it is at most (1/2) E r r' |sin(theta - theta')|; |sin x| is 2/pi less positive multiples of
cos 2kx, whose forms are non-negative; so w <= (1/2) (2/pi) (E r)^2 <= 1/pi. The cycle of n certain preferences, each
response beating the next (n - 1) / 2, comes arbitrarily near; rock, paper, scissors has 1 / (2 sqrt 3) = .289.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from shared.inpo.plan import (
    REFERENCE,
    GeometricMixture,
    Iterate,
    IterationPlan,
    Parameters,
    SamplingPolicy,
    UniformMixture,
    eta_at,
)

HARDEST_CYCLE = 1.0 / math.pi
ROCK_PAPER_SCISSORS = 1.0 / (2.0 * math.sqrt(3.0))

_NUM_SETTLING, _NUM_MEASURED = 60, 120
_LARGEST = 1e6

Planner = Callable[[Parameters, int], IterationPlan]


def growth(planner: Planner, parameters: Parameters, frequency: float) -> float | None:
    """The factor per iteration by which a deviation from the fixed point grows, along a mode of this frequency w.

    The step is the constant one of `parameters`. None for a plan with another loss than a regression on preferences:
    a logistic loss on pairs has another fixed point and another theory.
    """
    halves = (None, 1, 2)
    first = len(parameters.weights or ()) + 3
    deviations = {Iterate(number, half): 1.0 + 0.0j for number in range(first) for half in halves}
    log_size, settled = 0.0, 0.0
    for iteration in range(first, first + _NUM_SETTLING + _NUM_MEASURED):
        half_steps = planner(parameters, iteration).half_steps
        for number, half in enumerate(half_steps, start=1):
            if half.loss == "logistic":
                return None
            kept = sum((a.exponent * _deviation(a.iterate, deviations) for a in half.anchors), 0.0 + 0.0j)
            pushed = 1j * frequency / half.scale * _opponent(half.sample_from, deviations)
            made = Iterate(iteration, half=number) if number < len(half_steps) else Iterate(iteration)
            deviations[made] = kept + pushed
        size = max(abs(deviations[Iterate(iteration)]), 1e-200)
        log_size += math.log(size)
        deviations = {
            iterate: value / size for iterate, value in deviations.items() if iterate.iteration > iteration - first
        }
        settled = log_size if iteration < first + _NUM_SETTLING else settled
    return math.exp((log_size - settled) / _NUM_MEASURED)


def settles(factor: float) -> bool:
    """Whether a deviation that grows by this factor dies out; rounding is given 1e-9."""
    return factor < 1.0 - 1e-9


def frozen(parameters: Parameters, iteration: int) -> Parameters:
    """The constant step that a schedule has reached in this iteration."""
    if parameters.schedule == "constant":
        return parameters
    return replace(parameters, schedule="constant", eta=eta_at(parameters, iteration))


def smallest_stable(planner: Planner, parameters: Parameters, name: str, frequency: float) -> float | None:
    """The value of parameter `name` above its present one from which on deviations shrink; None where there is none.

    The present one is taken to be unstable.
    """

    def stable(value: float) -> bool:
        factor = growth(planner, replace(parameters, **{name: value}), frequency)
        return factor is not None and settles(factor)

    low = getattr(parameters, name) or 1e-6
    high = low
    while not stable(high):
        low, high = high, 2.0 * high
        if high > _LARGEST:
            return None
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if stable(middle) else (middle, high)
    return high


def _deviation(iterate: Iterate, deviations: dict[Iterate, complex]) -> complex:
    """Of an iterate from the fixed point, on the mode's axis; the reference is part of the fixed point's equation."""
    return 0.0j if iterate == REFERENCE else deviations[iterate]


def _opponent(policy: SamplingPolicy, deviations: dict[Iterate, complex]) -> complex:
    match policy:
        case Iterate():
            return _deviation(policy, deviations)
        case UniformMixture():
            parts = [_deviation(iterate, deviations) for iterate in policy.iterates]
            return sum(parts, 0.0j) / len(parts)
        case GeometricMixture():
            return (1.0 - policy.reference_exponent) * _deviation(policy.iterate, deviations)
