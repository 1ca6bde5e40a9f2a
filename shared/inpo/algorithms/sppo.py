"""SPPO: self-play preference optimisation (arXiv 2405.00675)."""

from shared.inpo.plan import HalfStep, Iterate, IterationPlan, Parameters, algorithm, anchors


@algorithm(needs={"eta": "its official code: 0.001, there called beta"})
def sppo(parameters: Parameters, iteration: int) -> IterationPlan:
    """Per response y of a pair from pi_t: (log pi(y)/pi_t(y) - (P(y ≻ pi_t) - 1/2) / eta)^2.

    It stands for pi_{t+1} ∝ pi_t · exp(P(· ≻ pi_t) / eta), with the log-partition replaced by 1/(2 eta): true up to
    1/eta about 1. At the official 1/eta = 1000 the minimiser is near pi_t · max(P - 1/2, 0) instead.
    """
    pi_t, eta = Iterate(iteration - 1), parameters.eta or 0.0
    return IterationPlan((HalfStep(pi_t, pi_t, anchors((pi_t, 1.0)), "win_rate_squared", eta),))
