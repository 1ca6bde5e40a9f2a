"""Policies over n responses as arrays of log-probabilities, so that nothing underflows on the way."""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector: TypeAlias = NDArray[np.float64]

NEAR = 1e-4


def kl(p: ArrayLike, q: ArrayLike) -> float:
    """KL(p || q) in nats, not negative; infinite where p has mass and q has none."""
    return log_kl(log_of(np.asarray(p, dtype=np.float64)), log_of(np.asarray(q, dtype=np.float64)))


def log_kl(log_p: Vector, log_q: Vector) -> float:
    """KL(p || q) by log-probabilities, to many digits however near p is to q.

    It is the sum of q - p - p log q/p. No term is negative, so that none cancels another; near q = p it is a series.
    """
    given = log_p > -np.inf
    mass, ratio = np.exp(log_p[given]), log_q[given] - log_p[given]
    series = mass * ratio**2 / 2.0 * (1.0 + ratio / 3.0 * (1.0 + ratio / 4.0))
    terms = np.where(np.abs(ratio) < NEAR, series, np.exp(log_q[given]) - mass - mass * ratio)
    return float(terms.sum() + np.exp(log_q[~given]).sum())


def softmax(logits: ArrayLike) -> Vector:
    """Probabilities proportional to exp(logits)."""
    return np.exp(log_softmax(np.asarray(logits, dtype=np.float64)))


def log_softmax(logits: Vector) -> Vector:
    """Log-probabilities of the policy ∝ exp(logits)."""
    shifted = logits - logits.max()
    log_probs: Vector = shifted - np.log(np.exp(shifted).sum())
    return log_probs


def log_of(policy: Vector) -> Vector:
    """Log-probabilities, minus infinity where there is no mass."""
    with np.errstate(divide="ignore"):
        return np.log(policy)
