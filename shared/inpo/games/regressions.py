"""Exact minimisers of the losses that are not a least-squares fit of log-ratios: SPPO's. DPO's is `bradley_terry`."""

import numpy as np

from shared.inpo.games.arrays import Vector

NUM_BISECTIONS = 64
NUM_LAMBERT_STEPS = 12


def sppo_minimiser(anchor: Vector, target: Vector) -> Vector:
    """Log pi/anchor = f of the policy that minimises E_{y~anchor} (f(y) - target(y))^2 (SPPO, arXiv 2405.00675).

    The paper minimises over all functions; over policies, sum of anchor · e^f = 1, one multiplier c >= 0 gives
    f + c e^f = target. So f = target - W(c e^target), W being Lambert's function, and c is found by bisection.
    Targets whose mean is 0 are assumed, as win rates against the anchor have when 1/2 is subtracted.
    """

    def minimiser(log_c: float) -> Vector:
        return target - _lambert(target + log_c)

    low, high = -700.0 - float(target.max()), 700.0 - float(target.min())
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _log_mass(anchor, minimiser(middle)) > 0.0 else (low, middle)
    return minimiser((low + high) / 2.0)


def _log_mass(anchor: Vector, log_ratio: Vector) -> float:
    largest = float(log_ratio.max())
    return largest + float(np.log(anchor @ np.exp(log_ratio - largest)))


def _lambert(z: Vector) -> Vector:
    """The w > 0 with w + log w = z, which is W(e^z), by Newton's method in w."""
    w = np.where(z > 1.0, z - np.log(np.maximum(z, 1.0)), np.exp(np.minimum(z, 1.0)))
    for _ in range(NUM_LAMBERT_STEPS):
        w = w * (1.0 + z - np.log(w)) / (1.0 + w)
    return w
