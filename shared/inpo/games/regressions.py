"""Exact minimisers of the losses that are not a least-squares fit of log-ratios."""

import numpy as np
from numpy.typing import NDArray

from shared.inpo.games.arrays import Vector

TOLERANCE = 1e-13
LARGEST_REWARD = 1e4
ROUNDING = 1e-10
SHORTEST_STEP = 1e-6
MAX_STEPS = 1000
NUM_BISECTIONS = 64
NUM_LAMBERT_STEPS = 12
UNBOUNDED = (
    "the Bradley-Terry fit does not exist: some responses win every comparison with the others, and their reward grows "
    "without bound. Choose preferences inside (0, 1)"
)


def bradley_terry(preference: NDArray[np.float64], mu: Vector) -> Vector:
    """Rewards r of the Bradley-Terry fit to pairs of mu: E_{y'~mu} sigma(r(y) - r(y')) = P(y ≻ mu) for every y.

    What DPO learns, as beta log pi/reference. Responses that mu never gives have their limit; the mean under mu is 0.
    An ArithmeticError where there is none: where some responses win every comparison with the rest, rewards grow
    without bound.
    """
    rates: Vector = preference @ mu
    if rates.max() >= 1.0 or rates.min() <= 0.0 or not _all_can_win(preference):
        raise ArithmeticError(UNBOUNDED)
    rewards = np.zeros(len(mu))
    error = _mismatch(rewards, mu, rates)
    for _ in range(MAX_STEPS):
        size = float(np.abs(error).max())
        if size <= TOLERANCE:
            break
        odds = _sigmoid(rewards[:, None] - rewards[None, :])
        slope = odds * (1.0 - odds) * mu
        jacobian = np.diag(slope.sum(axis=1)) - slope + mu
        change, length = np.linalg.solve(jacobian, error), 1.0
        while True:
            moved = rewards + length * change
            found = _mismatch(moved, mu, rates)
            if float(np.abs(found).max()) < size:
                rewards, error = moved - float(mu @ moved), found
                break
            length *= 0.5
            if length < SHORTEST_STEP:
                if size <= ROUNDING:
                    return rewards
                raise ArithmeticError(UNBOUNDED)
        if float(np.abs(rewards).max()) > LARGEST_REWARD:
            raise ArithmeticError(UNBOUNDED)
    return rewards


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


def _mismatch(rewards: Vector, mu: Vector, rates: Vector) -> Vector:
    expected: Vector = _sigmoid(rewards[:, None] - rewards[None, :]) @ mu
    return rates - expected


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _all_can_win(preference: NDArray[np.float64]) -> bool:
    """Every response is linked to every other by a chain of possible wins; only then are rewards bounded."""
    reachable = preference > 0.0
    if reachable.all():
        return True
    for _ in range(len(preference).bit_length()):
        reachable = (reachable.astype(np.float64) @ reachable.astype(np.float64)) > 0.0
    return bool(reachable.all())
