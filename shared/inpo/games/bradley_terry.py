"""The Bradley-Terry fit that DPO learns, as beta log pi/reference.

It minimises the cross-entropy of sigma(r(y) - r(y')) with P(y ≻ y') over pairs of mu: there the wins of every response
are as surprising as its losses,

    sum_y' mu(y') P(y ≻ y') sigma(r(y') - r(y)) = sum_y' mu(y') P(y' ≻ y) sigma(r(y) - r(y'))

DPO drives policies into vertices, where the other responses have masses that float64 cannot hold; of certain answers
these masses alone decide the rewards. Hence everything in logarithms: f(y) = log left side - log right side is nearly
linear in r, however small the masses are, and Newton's method takes a handful of steps to its zero.
"""

import math
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from shared.inpo.games.arrays import Vector, log_softmax

Matrix = NDArray[np.float64]

TOLERANCE = 1e-13
ROUNDING = 1e-12
SHORTEST_STEP = 1e-9
MAX_STEPS = 60
LARGEST_LOG = 1e15
UNBOUNDED = (
    "the Bradley-Terry fit does not exist: some responses win every comparison with the others, and their reward grows "
    "without bound. Choose preferences inside (0, 1)"
)
NOT_FOUND = (
    "the Bradley-Terry fit was not found: some responses certainly win, and the policy gives others too rarely for 64 "
    "bits. Choose preferences inside (0, 1), or fewer iterations"
)


def bradley_terry(preference: Matrix, log_mu: Vector) -> Vector:
    """Rewards r of the Bradley-Terry fit to pairs of mu; their mean under mu is 0.

    Responses that mu never gives have their limit. An ArithmeticError where there is no fit, because some responses win
    every comparison with the rest and rewards grow without bound; or where it is not found, see `NOT_FOUND`.
    """
    if not _all_can_win(preference):
        raise ArithmeticError(UNBOUNDED)
    # What cannot be: a certain loser's win, a policy's missing response. A response says nothing about itself.
    with np.errstate(divide="ignore", invalid="ignore"):
        log_preference: Matrix = np.log(preference)
        np.fill_diagonal(log_preference, -np.inf)
        rewards = _newton(log_preference, log_mu, np.zeros(len(log_mu)))
        if rewards is None:
            rewards = _from_flatter_policies(log_preference, log_mu)
    if rewards is None:
        raise ArithmeticError(NOT_FOUND)
    return rewards - float(np.exp(log_mu) @ rewards)


def _from_flatter_policies(log_preference: Matrix, log_mu: Vector) -> Vector | None:
    """Rewards grow as log mu does: those of the policy ∝ sqrt(mu), doubled, are where to start from, and so on."""
    spread = float(-log_mu[np.isfinite(log_mu)].min())
    if spread > LARGEST_LOG:
        return None
    rewards: Vector | None = np.zeros(len(log_mu))
    for halvings in range(math.ceil(math.log2(1.0 + spread)), -1, -1):
        if rewards is not None:
            rewards = _newton(log_preference, log_softmax(log_mu / 2.0**halvings), 2.0 * rewards)
    return rewards


def _newton(log_preference: Matrix, log_mu: Vector, start: Vector) -> Vector | None:
    """The zero of f, with the reward of mu's likeliest response at 0, whose equation follows from the others'."""
    others = np.arange(len(start)) != int(log_mu.argmax())
    wins, losses = (log_preference + log_mu)[others], (log_preference.T + log_mu)[others]
    rewards = start - start[~others]
    values, slope = _surprise(wins, losses, rewards, others)
    for _ in range(MAX_STEPS):
        size, length = float(np.abs(values).max(initial=0.0)), 1.0
        if size <= TOLERANCE:
            return rewards
        # f is flat where a response is far from those that decide on it, but not farther than rewards differ.
        farthest = 1.0 + size + 2.0 * float(np.abs(rewards).max())
        change = np.zeros(len(rewards))
        change[others] = np.clip(_solution(slope, values), -farthest, farthest)
        while True:
            moved = rewards + length * change
            values, slope = _surprise(wins, losses, moved, others)
            if float(np.abs(values).max()) < (1.0 - 0.1 * length) * size:
                break
            length *= 0.5
            if length < SHORTEST_STEP:
                return rewards if size <= ROUNDING * (1.0 + float(np.abs(rewards).max())) else None
        rewards = moved
    return None


def _solution(slope: Matrix, values: Vector) -> Vector:
    solution = np.full(len(values), np.nan)
    with suppress(np.linalg.LinAlgError):
        solution[:] = np.linalg.solve(slope, values)
    return solution


def _surprise(wins: Matrix, losses: Matrix, rewards: Vector, others: NDArray[np.bool_]) -> tuple[Vector, Matrix]:
    """Values f of the others, and -f'. It is an M-matrix: f falls with the own reward and rises with the others'."""
    ahead = rewards[others, None] - rewards
    small = np.exp(-np.abs(ahead))
    log_larger = -np.log1p(small)
    larger, smaller = 1.0 / (1.0 + small), small / (1.0 + small)
    log_won, won = _normalised(wins + log_larger - np.maximum(ahead, 0.0))
    log_lost, lost = _normalised(losses + log_larger + np.minimum(ahead, 0.0))
    pull = won * np.where(ahead > 0.0, larger, smaller) + lost * np.where(ahead > 0.0, smaller, larger)
    return log_won - log_lost, np.diag(pull.sum(axis=1)) - pull[:, others]


def _normalised(logs: Matrix) -> tuple[Vector, Matrix]:
    """Of each row, the logarithm of its sum and its shares of it."""
    largest = logs.max(axis=1, keepdims=True)
    shares = np.exp(logs - largest)
    totals = shares.sum(axis=1, keepdims=True)
    return (largest + np.log(totals))[:, 0], shares / totals


def _all_can_win(preference: Matrix) -> bool:
    """Every response is linked to every other by a chain of possible wins; only then are rewards bounded."""
    reachable = preference > 0.0
    if reachable.all():
        return True
    for _ in range(len(preference).bit_length()):
        reachable = (reachable.astype(np.float64) @ reachable.astype(np.float64)) > 0.0
    return bool(reachable.all())
