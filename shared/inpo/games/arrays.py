"""Policies over n responses as arrays of log-probabilities, so that nothing underflows on the way."""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector: TypeAlias = NDArray[np.float64]


def kl(p: ArrayLike, q: ArrayLike) -> float:
    """KL(p || q) in nats; infinite where p has mass and q has none."""
    first, second = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    support = first > 0.0
    with np.errstate(divide="ignore"):
        return float(first[support] @ (np.log(first[support]) - np.log(second[support])))


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
