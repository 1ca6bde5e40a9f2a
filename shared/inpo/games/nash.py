"""The Nash policy of a finite game, to the last digits that float64 has for it.

Regularised (tau > 0), the Nash policy is the one solution of log pi = log ref + P pi / tau - log Z. In u = log pi

    r(u) = log ref + A pi / tau - u          A = P - 1/2, antisymmetric         pi = softmax(u)
    r'(u) = -(I - A C / tau)                 C = diag(pi) - pi pi^T, positive semidefinite

The eigenvalues of A C are imaginary, so those of I - A C / tau are 1 + i w: Newton's step exists everywhere. It is
taken as far as it lowers the duality gap 2 tau KL(pi || best response), on the way from a large tau, where the game is
nearly solved by the reference, down to the tau that is asked for.
"""

import math
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from shared.inpo.games.arrays import Vector, log_kl, log_softmax

Matrix = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
LIPSCHITZ = 0.5
SHRINK = 0.25
SMALLEST_SHRINK = 0.99
ON_THE_WAY = 1e-6
MAX_NEWTON_STEPS = 60
MAX_STALLED_STEPS = 10
SHORTEST_STEP = 1e-4
ROUNDING = 1e-10
MAX_PROXIMAL_STEPS = 10
MAX_CENTRAL_STEPS = 100
PROXIMAL_TAU = 1e-7


def precision(tau: float) -> float:
    """The smallest residual to count on: P pi has an error of an epsilon, and is divided by tau."""
    return max(1e-15, 16.0 * EPSILON / tau)


def best_response(advantage: Matrix, log_reference: Vector, tau: float, policy: Vector) -> Vector:
    """Log-probabilities of ref · exp(P(· ≻ policy) / tau)."""
    return log_softmax(log_reference + advantage @ policy / tau)


def regularised_nash(advantage: Matrix, log_reference: Vector, tau: float, tol: float) -> Vector:
    """Log-probabilities of the Nash policy at tau > 0: residual at most `tol`, and as small as rounding lets it become.

    `advantage` is P - 1/2. An ArithmeticError says that `tol` is beyond float64: see `precision`.
    """
    temperature = solved = max(tau, 2.0 * LIPSCHITZ)
    log_policy, shrink = log_reference, SHRINK
    while True:
        last = temperature == tau
        wanted = tol if last else max(ON_THE_WAY, precision(temperature))
        enough = 0.0 if last else wanted
        tried, found = _newton(advantage, log_reference, temperature, log_policy, wanted, enough)
        if found <= wanted:
            if last:
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

    There may be many. The proximal point method finds one near the reference: the Nash policy of a regularised game is
    the next one's reference. Where ties make that slow or impossible, it is the centre of them all.
    """
    with suppress(ArithmeticError):
        tau, wanted = PROXIMAL_TAU, precision(PROXIMAL_TAU)
        log_policy = regularised_nash(advantage, log_reference, tau, wanted)
        for _ in range(MAX_PROXIMAL_STEPS):
            if _gap(advantage, np.exp(log_policy)) <= tol:
                return log_policy
            log_policy, _ = _newton(advantage, log_policy, tau, log_policy, wanted, wanted)
    return np.log(_centre(advantage, tol))


def _centre(advantage: Matrix, tol: float) -> Vector:
    """The policy pi > 0 with pi_i (g - (A pi)_i) = g / n, followed from g = 1 until its gap is `tol`.

    2 g bounds the gap. Newton's step exists, because A is antisymmetric and the rest a positive diagonal; it is cut
    short before pi or the slack g - A pi becomes 0.
    """
    num, bound = len(advantage), 1.0
    policy = np.full(num, 1.0 / num)
    for _ in range(MAX_CENTRAL_STEPS):
        if _gap(advantage, policy) <= tol:
            return policy
        slack, lowered = bound - advantage @ policy, -0.9 * bound
        system = np.diag(slack) - policy[:, None] * advantage
        change = np.linalg.solve(system, (bound + lowered) / num - policy * (slack + lowered))
        slackening = lowered - advantage @ change
        length = min(1.0, 0.95 / max(float((-change / policy).max()), float((-slackening / slack).max()), 0.95))
        policy, bound = policy + length * change, bound + length * lowered
        policy /= policy.sum()
    raise ArithmeticError(f"no Nash policy was found to a duality gap of {tol:g}: {_gap(advantage, policy):g}")


def _gap(advantage: Matrix, policy: Vector) -> float:
    return 2.0 * float((advantage @ policy).max())


def _newton(
    advantage: Matrix, log_reference: Vector, tau: float, log_policy: Vector, tol: float, enough: float
) -> tuple[Vector, float]:
    """The best policy on the way from `log_policy`, and its residual.

    The way ends where the residual is `enough`, or `tol` and falling no more, or where nothing gets better at all.
    """
    best, smallest, closest, stalled = log_policy, math.inf, math.inf, 0
    for _ in range(MAX_NEWTON_STEPS):
        response = best_response(advantage, log_reference, tau, np.exp(log_policy))
        error, distance = float(np.abs(response - log_policy).max()), log_kl(log_policy, response)
        # The gap leads the way from afar; near the end it vanishes in rounding, and the residual goes on.
        stalled = 0 if error < smallest or distance < 0.999 * closest else stalled + 1
        closest = min(closest, distance)
        if error < smallest:
            best, smallest = log_policy, error
        if smallest <= enough or (stalled and smallest <= tol) or stalled > MAX_STALLED_STEPS:
            break
        log_policy = _step(advantage, log_reference, tau, log_policy, response)
    return best, smallest


def _step(advantage: Matrix, log_reference: Vector, tau: float, log_policy: Vector, response: Vector) -> Vector:
    change = np.linalg.solve(_slope(advantage, tau, np.exp(log_policy)), response - log_policy)
    distance, length = log_kl(log_policy, response), 1.0
    while length > SHORTEST_STEP:
        moved = log_softmax(log_policy + length * change)
        reached = log_kl(moved, best_response(advantage, log_reference, tau, np.exp(moved)))
        if reached <= (1.0 - 0.1 * length) * distance or distance < min(ROUNDING, precision(tau)):
            return moved
        length *= 0.5
    return _extragradient(advantage, log_reference, tau, log_policy)


def _slope(advantage: Matrix, tau: float, policy: Vector) -> Matrix:
    """I - A C / tau, without a product of matrices: A C is A diag(pi) less (A pi) pi^T."""
    slope = np.outer(advantage @ policy, policy)
    slope -= advantage * policy
    slope /= tau
    slope[np.diag_indices_from(slope)] += 1.0
    return slope


def _extragradient(advantage: Matrix, log_reference: Vector, tau: float, log_policy: Vector) -> Vector:
    """Two steps from one anchor, eta = tau + 1/2: shrinks KL to the Nash policy by 1 / (1 + 2 tau), from anywhere."""
    eta = tau + LIPSCHITZ
    anchor = (tau / eta) * log_reference + (1.0 - tau / eta) * log_policy
    half = log_softmax(anchor + advantage @ np.exp(log_policy) / eta)
    return log_softmax(anchor + advantage @ np.exp(half) / eta)
