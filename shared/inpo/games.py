"""The exact finite game: a handful of responses, everything in closed form, in float64.

    J(p, q) = P(p ≻ q) - tau KL(p || ref) + tau KL(q || ref)         INPO, arXiv 2407.00617, Eq. 3

n responses; a policy is n probabilities. `preferences[i, j]` = P(response i beats response j). The game is what INPO
plays with a language model, one prompt at a time, so it is the yardstick of the whole system.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector: TypeAlias = NDArray[np.float64]

SUM_TOLERANCE = 1e-6
LIPSCHITZ = 0.5
MAX_ITERATIONS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """A preference game regularised towards a reference policy.

    A ValueError says which of `preferences` (n x n, P + P^T = 1), `reference` (n positive probabilities) and `tau`
    (>= 0) is wrong, and how. The arrays are copies that cannot be written to.
    """

    preferences: Vector
    reference: Vector
    tau: float

    def __init__(self, preferences: ArrayLike, reference: ArrayLike, tau: float) -> None:
        matrix = _frozen(preferences)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ValueError(f"preferences must be a square matrix, not of shape {matrix.shape}")
        if not np.all((matrix >= 0.0) & (matrix <= 1.0)):
            raise ValueError("preferences must be probabilities in [0, 1]")
        if not np.allclose(matrix + matrix.T, 1.0, rtol=0.0, atol=1e-9):
            raise ValueError("preferences must satisfy P + P^T = 1, and so be 1/2 on the diagonal")
        probabilities = _distribution("reference", reference, len(matrix))
        if not np.all(probabilities > 0.0):
            raise ValueError("reference must give every response a positive probability")
        if not (math.isfinite(tau) and tau >= 0.0):
            raise ValueError(f"tau must be a finite number >= 0, not {tau}")
        object.__setattr__(self, "preferences", matrix)
        object.__setattr__(self, "reference", probabilities)
        object.__setattr__(self, "tau", float(tau))

    def win_rates(self, policy: ArrayLike) -> Vector:
        """P(y ≻ policy) of every response y."""
        return self.preferences @ self._policy(policy)

    def value(self, first: ArrayLike, second: ArrayLike) -> float:
        """J(first, second): above 1/2 the first player does better."""
        one, two = self._policy(first), self._policy(second)
        rate = float(one @ self.preferences @ two)
        return rate - self._penalty(one) + self._penalty(two)

    def best_response(self, policy: ArrayLike) -> Vector:
        """argmax_p J(p, policy) ∝ ref · exp(P(· ≻ policy) / tau).

        At tau = 0, its limit: the reference restricted to the responses that win most often.
        """
        rates = self.win_rates(policy)
        if self.tau == 0.0:
            best = np.where(rates >= rates.max() - 1e-12, self.reference, 0.0)
            return best / best.sum()
        return softmax(np.log(self.reference) + rates / self.tau)

    def duality_gap(self, policy: ArrayLike) -> float:
        """0 at the Nash policy, else positive: max_p J(p, policy) - min_p J(policy, p) = 2 (max_p J(p, policy) - 1/2).

        At tau = 0 it is the gap of the unregularised game.
        """
        rates = self.win_rates(policy)
        if self.tau == 0.0:
            best = float(rates.max())
        else:
            best = self.tau * float(np.logaddexp.reduce(np.log(self.reference) + rates / self.tau))
        return 2.0 * (best + self._penalty(self._policy(policy)) - 0.5)

    def inpo_step(self, policy: ArrayLike, eta: float) -> Vector:
        """INPO's exact update: ∝ ref^(tau/eta) · policy^(1 - tau/eta) · exp(P(· ≻ policy) / eta) (Eq. 5).

        tau = 0 is INPO without KL, eta = tau is the best response.
        """
        if not 0.0 <= self.tau <= eta:
            raise ValueError(f"eta must be positive and at least tau = {self.tau}, not {eta}")
        return self.anchored_step(self._anchor(policy, eta), policy, eta)

    def anchored_step(self, anchor_logits: ArrayLike, opponent: ArrayLike, eta: float) -> Vector:
        """∝ exp(anchor_logits) · exp(P(· ≻ opponent) / eta): what the squared loss converges to.

        The opponent is the policy that the pairs are sampled from. `anchor_logits` need not be normalised.
        """
        if not eta > 0.0:
            raise ValueError(f"eta must be positive, not {eta}")
        return softmax(np.asarray(anchor_logits, dtype=np.float64) + self.win_rates(opponent) / eta)

    def nash(self, tol: float = 1e-10) -> Vector:
        """The Nash policy: log pi = log ref + P(· ≻ pi) / tau - log Z holds to `tol` for every response.

        Two steps an iteration from the same anchor, eta = tau + 1/2, contract the KL to the Nash policy by
        1 / (1 + 2 tau), however small tau is (extragradient; the proximal point method of arXiv 2505.19731).
        """
        if self.tau == 0.0:
            raise ValueError("the Nash policy needs tau > 0: at tau = 0 it need not be unique")
        eta, policy = self.tau + LIPSCHITZ, self.reference
        start = -math.log(float(self.reference.min())) + 1.0
        needed = math.log(start / (tol * min(1.0, self.tau)) ** 2) / math.log1p(2.0 * self.tau)
        for _ in range(min(2 * math.ceil(needed), MAX_ITERATIONS)):
            anchor = self._anchor(policy, eta)
            policy = self.anchored_step(anchor, self.anchored_step(anchor, policy, eta), eta)
            if self.nash_residual(policy) <= tol:
                return policy
        raise ArithmeticError(f"the Nash policy was not found to {tol}: residual {self.nash_residual(policy)}")

    def nash_residual(self, policy: ArrayLike) -> float:
        """How far a policy is from its own best response: max |log policy - log best_response(policy)|."""
        with np.errstate(divide="ignore"):
            return float(np.abs(np.log(self._policy(policy)) - np.log(self.best_response(policy))).max())

    def stability_threshold(self) -> float:
        """INPO's last iterate converges, near the Nash policy, for every constant eta above this and none below.

        Linearised at the Nash policy the update multiplies a deviation by 1 + (i w - tau) / eta, where the i w are the
        eigenvalues of the preferences under the policy's covariance. They are imaginary because P - 1/2 is
        antisymmetric; the modulus is below 1 iff eta > (w^2 + tau^2) / (2 tau).
        """
        root = np.sqrt(self.nash())
        factor = (np.eye(len(root)) - np.outer(root, root)) * root
        frequency = float(np.linalg.norm(factor @ (self.preferences - 0.5) @ factor.T, 2))
        return (frequency**2 + self.tau**2) / (2.0 * self.tau)

    def _anchor(self, policy: ArrayLike, eta: float) -> Vector:
        share = self.tau / eta
        logits = share * np.log(self.reference)
        if share == 1.0:
            return logits
        with np.errstate(divide="ignore"):
            return logits + (1.0 - share) * np.log(self._policy(policy))

    def _penalty(self, policy: Vector) -> float:
        return self.tau * kl(policy, self.reference)

    def _policy(self, policy: ArrayLike) -> Vector:
        return _distribution("policy", policy, len(self.reference))


def kl(p: ArrayLike, q: ArrayLike) -> float:
    """KL(p || q) in nats; infinite where p has mass and q has none."""
    first, second = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    support = first > 0.0
    with np.errstate(divide="ignore"):
        return float(first[support] @ (np.log(first[support]) - np.log(second[support])))


def softmax(logits: ArrayLike) -> Vector:
    """Probabilities proportional to exp(logits)."""
    array = np.asarray(logits, dtype=np.float64)
    weights = np.exp(array - array.max())
    return weights / weights.sum()


def _distribution(name: str, values: ArrayLike, size: int) -> Vector:
    array = _frozen(values)
    if array.shape != (size,):
        raise ValueError(f"{name} must hold {size} probabilities, not an array of shape {array.shape}")
    if not np.all(array >= 0.0) or not abs(float(array.sum()) - 1.0) <= SUM_TOLERANCE:
        raise ValueError(f"{name} must be probabilities that sum to 1, not {array.tolist()}")
    return array


def _frozen(values: ArrayLike) -> Vector:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array
