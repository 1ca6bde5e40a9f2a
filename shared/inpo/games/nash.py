"""The Nash policy of a finite game, to the last digits that float64 has for it.

Regularised (tau > 0), the Nash policy is the one solution of log pi = log ref + P pi / tau - log Z. In u = log pi

    r(u) = log ref + A pi / tau - u          A = P - 1/2, antisymmetric         pi = softmax(u)
    r'(u) = -(I - A C / tau)                 C = diag(pi) - pi pi^T, positive semidefinite

The eigenvalues of A C are imaginary, so those of I - A C / tau are 1 + i w: Newton's step exists everywhere. It is
taken as far as it lowers the duality gap 2 tau KL(pi || best response), on the way from a large tau, where the game is
nearly solved by the reference, down to the tau that is asked for.
"""

import math

import numpy as np
from numpy.typing import NDArray

from shared.inpo.games.arrays import Vector, log_softmax

Matrix = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
LIPSCHITZ = 0.5
SHRINK = 0.25
SMALLEST_SHRINK = 0.99
ON_THE_WAY = 1e-6
MAX_NEWTON_STEPS = 60
MAX_STALLED_STEPS = 10
SHORTEST_STEP = 1e-4
ROUNDING = 1e-20
MAX_PROXIMAL_STEPS = 100
PROXIMAL_TAU = 1e-7


def precision(tau: float) -> float:
    """The smallest residual to hope for: P pi has an error of an epsilon, and is divided by tau."""
    return max(1e-15, 16.0 * EPSILON / tau)


def best_response(advantage: Matrix, log_reference: Vector, tau: float, policy: Vector) -> Vector:
    """Log-probabilities of ref · exp(P(· ≻ policy) / tau)."""
    return log_softmax(log_reference + advantage @ policy / tau)


def regularised_nash(advantage: Matrix, log_reference: Vector, tau: float, tol: float) -> Vector:
    """Log-probabilities of the Nash policy at tau > 0, with a residual of at most `tol`.

    `advantage` is P - 1/2. An ArithmeticError says that `tol` is beyond float64: see `precision`.
    """
    temperature = solved = max(tau, 2.0 * LIPSCHITZ)
    log_policy, shrink = log_reference, SHRINK
    while True:
        wanted = tol if temperature == tau else max(ON_THE_WAY, precision(temperature))
        tried, found = _newton(advantage, log_reference, temperature, log_policy, wanted)
        if found <= wanted:
            if temperature == tau:
                return tried
            solved, log_policy = temperature, tried
        elif shrink > SMALLEST_SHRINK or temperature >= 2.0 * LIPSCHITZ:
            raise ArithmeticError(
                f"the Nash policy was not found to {tol:g}: residual {found:g} at tau = {temperature:g}"
            )
        else:
            shrink = math.sqrt(shrink)
        temperature = max(tau, shrink * solved)


def unregularised_nash(advantage: Matrix, log_reference: Vector, tol: float) -> Vector:
    """Log-probabilities of a Nash policy at tau = 0, against which no response wins more than 1/2 + tol / 2.

    There may be many. The proximal point method: the Nash policy of a regularised game is the next one's reference.
    """
    log_policy = regularised_nash(advantage, log_reference, PROXIMAL_TAU, precision(PROXIMAL_TAU))
    gap = math.inf
    for _ in range(MAX_PROXIMAL_STEPS):
        gap = 2.0 * float((advantage @ np.exp(log_policy)).max())
        if gap <= tol:
            return log_policy
        log_policy, _ = _newton(advantage, log_policy, PROXIMAL_TAU, log_policy, precision(PROXIMAL_TAU))
    raise ArithmeticError(f"no Nash policy was found to a duality gap of {tol:g}: {gap:g}")


def _newton(
    advantage: Matrix, log_reference: Vector, tau: float, log_policy: Vector, tol: float
) -> tuple[Vector, float]:
    """Go on from `log_policy` until the residual is `tol`, or as small as rounding lets it become; policy, residual."""
    best, smallest, closest, stalled = log_policy, math.inf, math.inf, 0
    for _ in range(MAX_NEWTON_STEPS):
        response = best_response(advantage, log_reference, tau, np.exp(log_policy))
        error, distance = float(np.abs(response - log_policy).max()), _kl(log_policy, response)
        # The gap leads the way from afar; near the end it vanishes in rounding, and the residual goes on.
        stalled = 0 if error < smallest or distance < 0.999 * closest else stalled + 1
        closest = min(closest, distance)
        if error < smallest:
            best, smallest = log_policy, error
        if smallest <= min(tol, precision(tau)) or (stalled and smallest <= tol) or stalled > MAX_STALLED_STEPS:
            break
        log_policy = _step(advantage, log_reference, tau, log_policy, response)
    return best, smallest


def _step(advantage: Matrix, log_reference: Vector, tau: float, log_policy: Vector, response: Vector) -> Vector:
    policy = np.exp(log_policy)
    covariance = np.diag(policy) - np.outer(policy, policy)
    change = np.linalg.solve(np.eye(len(policy)) - advantage @ covariance / tau, response - log_policy)
    distance, length = _kl(log_policy, response), 1.0
    while length > SHORTEST_STEP:
        moved = log_softmax(log_policy + length * change)
        reached = _kl(moved, best_response(advantage, log_reference, tau, np.exp(moved)))
        if reached <= (1.0 - 0.1 * length) * distance or distance < ROUNDING:
            return moved
        length *= 0.5
    return _extragradient(advantage, log_reference, tau, log_policy)


def _kl(first: Vector, second: Vector) -> float:
    """KL between policies given by finite log-probabilities; of a policy to its best response: gap / (2 tau)."""
    return float(np.exp(first) @ (first - second))


def _extragradient(advantage: Matrix, log_reference: Vector, tau: float, log_policy: Vector) -> Vector:
    """Two steps from one anchor, eta = tau + 1/2: shrinks KL to the Nash policy by 1 / (1 + 2 tau), from anywhere."""
    eta = tau + LIPSCHITZ
    anchor = (tau / eta) * log_reference + (1.0 - tau / eta) * log_policy
    half = log_softmax(anchor + advantage @ np.exp(log_policy) / eta)
    return log_softmax(anchor + advantage @ np.exp(half) / eta)
