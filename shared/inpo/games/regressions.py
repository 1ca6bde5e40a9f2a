"""Exact minimisers of the losses that are not a least-squares fit of log-ratios: SPPO's. DPO's is `bradley_terry`."""

import numpy as np

from shared.inpo.games.arrays import Vector

NUM_BISECTIONS = 64
NUM_LAMBERT_STEPS = 6
NOTHING = -40.0


def sppo_minimiser(log_anchor: Vector, target: Vector) -> Vector:
    """Log pi/anchor = f of the policy that minimises E_{y~anchor} (f(y) - target(y))^2 (SPPO, arXiv 2405.00675).

    The paper minimises over all functions; over policies, sum of anchor · e^f = 1, one multiplier c >= 0 gives
    f + c e^f = target. So f = target - W(c e^target), W being Lambert's function, and c is found by bisection.
    Targets whose mean is 0 are assumed, as win rates against the anchor have when 1/2 is subtracted.
    """
    low, high = -700.0 - float(target.max()), 700.0 - float(target.min())
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2.0
        log_mass = np.logaddexp.reduce(log_anchor + target - _lambert(target + middle))
        low, high = (middle, high) if log_mass > 0.0 else (low, middle)
    return target - _lambert(target + (low + high) / 2.0)


def _lambert(z: Vector) -> Vector:
    """The w > 0 with w + log w = z, which is W(e^z), by Newton's method in w; e^z itself where that is nothing."""
    counted = np.maximum(z, NOTHING)
    w = np.where(counted > 1.0, counted - np.log(np.maximum(counted, 1.0)), np.exp(np.minimum(counted, 1.0)))
    for _ in range(NUM_LAMBERT_STEPS):
        w = w * (1.0 + counted - np.log(w)) / (1.0 + w)
    return np.where(z > NOTHING, w, np.exp(np.minimum(z, NOTHING)))
