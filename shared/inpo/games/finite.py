"""The exact finite game: a handful of responses, everything in closed form, in float64.

    J(p, q) = P(p ≻ q) - tau KL(p || ref) + tau KL(q || ref)         INPO, arXiv 2407.00617, Eq. 3

n responses; a policy is n probabilities. `preference[i, j]` = P(response i beats response j). The game is what INPO
plays with a language model, one prompt at a time.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.inpo.games import nash
from shared.inpo.games.arrays import Vector, kl, log_kl, log_of, log_softmax, softmax
from shared.inpo.games.inputs import SUM_TOLERANCE, distribution, frozen, number

NASH_RESIDUAL = 1e-12
LOG_SMALLEST = -290.0 * math.log(10.0)


@dataclass(frozen=True, eq=False)
class FiniteGame:
    """A preference game regularised towards a reference policy.

    A ValueError says which of `preference` (n x n, P + P^T = 1), `reference` (n positive probabilities) and `tau`
    (>= 0) is wrong, and how; sums may be off by the rounding of 32 bits. The arrays are copies that cannot be written
    to.
    """

    preference: NDArray[np.float64]
    reference: Vector
    tau: float

    def __init__(self, preference: ArrayLike, reference: ArrayLike, tau: float) -> None:
        matrix = frozen("preference", preference)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ValueError(f"preference must be a square matrix, not of shape {matrix.shape}")
        if not np.all((matrix >= 0.0) & (matrix <= 1.0)):
            raise ValueError("preference must be probabilities in [0, 1]")
        surplus = np.abs(matrix + matrix.T - 1.0)
        if surplus.max() > SUM_TOLERANCE:
            row, column = np.unravel_index(np.argmax(surplus), matrix.shape)
            raise ValueError(
                "preference must satisfy P + P^T = 1, and so be 1/2 on the diagonal: "
                f"P[{row}, {column}] + P[{column}, {row}] = {matrix[row, column] + matrix[column, row]:.9g}"
            )
        probabilities = distribution("reference", reference, len(matrix))
        if not np.all(probabilities > 0.0):
            raise ValueError("reference must give every response a positive probability")
        probabilities = frozen("reference", probabilities / probabilities.sum())
        strength = number("tau", tau)
        if not (math.isfinite(strength) and strength >= 0.0):
            raise ValueError(f"tau must be a finite number >= 0, not {tau}")
        object.__setattr__(self, "preference", matrix)
        object.__setattr__(self, "reference", probabilities)
        object.__setattr__(self, "tau", strength)

    def win_rates(self, policy: ArrayLike) -> Vector:
        """P(y ≻ policy) of every response y."""
        return 0.5 + self.advantage @ self.policy(policy)

    def value(self, first: ArrayLike, second: ArrayLike) -> float:
        """J(first, second): above 1/2 the first player does better."""
        one, two = self.policy(first), self.policy(second)
        return 0.5 + float(one @ self.advantage @ two) - self._penalty(one) + self._penalty(two)

    def best_response(self, policy: ArrayLike) -> Vector:
        """argmax_p J(p, policy) ∝ ref · exp(P(· ≻ policy) / tau).

        At tau = 0, its limit: the reference restricted to the responses that win most often.
        """
        rates = self.advantage @ self.policy(policy)
        if self.tau == 0.0:
            best = np.where(rates >= rates.max() - 1e-12, self.reference, 0.0)
            return best / best.sum()
        return softmax(self.log_reference + rates / self.tau)

    def duality_gap(self, policy: ArrayLike) -> float:
        """0 at the Nash policy, else positive: max_p J(p, policy) - min_p J(policy, p) = 2 (max_p J(p, policy) - 1/2).

        It is 2 tau KL(policy || best response), and at tau = 0 the gap of the unregularised game.
        """
        probabilities = self.policy(policy)
        if self.tau == 0.0:
            return max(0.0, 2.0 * float((self.advantage @ probabilities).max()))
        response = nash.best_response(self.advantage, self.log_reference, self.tau, probabilities)
        return 2.0 * self.tau * log_kl(log_of(probabilities), response)

    def kl_to_nash(self, policy: ArrayLike) -> float:
        """KL(pi* || policy) in nats, pi* the Nash policy; infinite where the policy lacks a response that pi* gives."""
        return kl(self._nash, self.policy(policy))

    def nash(self) -> Vector:
        """The Nash policy: log pi = log ref + P(· ≻ pi) / tau - log Z holds to 1e-12 for every response.

        Below tau = 0.001 rounding allows a few epsilons / tau only, and probabilities below 1e-290 have fewer digits;
        where tau is so small that rounding hides the policy, it is an ArithmeticError. At tau = 0 there may be many
        Nash policies: it is one against which no response wins by more than 1e-12. Computed once, by Newton's method;
        seconds for 2,000 responses.
        """
        return self._nash

    def nash_residual(self, policy: ArrayLike) -> float:
        """How far a policy is from its own best response: max |log policy - log best_response(policy)|.

        Responses that both give less than once in 1e290 times, where float64 ends, are left out.
        """
        if self.tau == 0.0:
            raise ValueError("the residual needs tau > 0: at tau = 0 look at the duality gap")
        probabilities = self.policy(policy)
        response = nash.best_response(self.advantage, self.log_reference, self.tau, probabilities)
        logs = log_of(probabilities)
        counted = np.maximum(logs, response) > LOG_SMALLEST
        return float(np.abs(logs - response)[counted].max())

    def stability_threshold(self) -> float:
        """The smallest stable constant eta: INPO's last iterate converges near the Nash policy above it, not below.

        Linearised at the Nash policy the update multiplies a deviation by 1 + (i w - tau) / eta, where the i w are the
        eigenvalues of the preferences under the policy's covariance. They are imaginary because P - 1/2 is
        antisymmetric; the modulus is below 1 iff eta > (w^2 + tau^2) / (2 tau), for the largest w. INPO also needs
        eta >= tau, which this does not say. At tau = 0 it is infinite: no constant eta makes a last iterate converge.
        """
        if self.tau == 0.0:
            return math.inf
        return (self._frequency() ** 2 + self.tau**2) / (2.0 * self.tau)

    def policy(self, policy: ArrayLike) -> Vector:
        """The policy as an array, after the check that it is one: n probabilities that sum to 1."""
        return distribution("policy", policy, len(self.reference))

    @cached_property
    def advantage(self) -> NDArray[np.float64]:
        """A = P - 1/2, antisymmetric to the last bit."""
        half: NDArray[np.float64] = (self.preference - self.preference.T) / 2.0
        return half

    @cached_property
    def log_reference(self) -> Vector:
        """The reference's log-probabilities, normalised."""
        return log_softmax(np.log(self.reference))

    @cached_property
    def _nash(self) -> Vector:
        if self.tau == 0.0:
            found = nash.unregularised_nash(self.advantage, self.log_reference, NASH_RESIDUAL)
        else:
            tol = max(NASH_RESIDUAL, nash.precision(self.tau))
            found = nash.regularised_nash(self.advantage, self.log_reference, self.tau, tol)
        policy = np.exp(found)
        policy.setflags(write=False)
        return policy

    def _frequency(self) -> float:
        """The largest w: the norm of (I - r r^T) R A R (I - r r^T), r the roots of the Nash policy, R = diag(r)."""
        root = np.sqrt(self._nash)
        drift = np.outer(root, root * (self.advantage @ self._nash))
        return float(np.linalg.norm(root[:, None] * self.advantage * root + drift - drift.T, 2))

    def _penalty(self, policy: Vector) -> float:
        return self.tau * kl(policy, self.reference)
