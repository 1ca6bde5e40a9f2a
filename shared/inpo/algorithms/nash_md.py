"""Nash-MD: mirror descent against a mixture with the reference (arXiv 2312.00886)."""

from shared.inpo.plan import HalfStep, Iterate, IterationPlan, Parameters, algorithm, eta_at, geometric, regularised


@algorithm(needs={"eta": "1 / the paper's step; above tau"}, takes=("tau", "schedule"))
def nash_md(parameters: Parameters, iteration: int) -> IterationPlan:
    """pi_{t+1} ∝ mix · exp(P(· ≻ mix) / eta) with mix ∝ ref^(tau/eta) · pi_t^(1 - tau/eta), anchor and opponent in one.

    A constant step has a biased fixed point: the opponent is not pi_t. The paper's decreasing steps are `theorem4`.
    """
    pi_t, eta = Iterate(iteration - 1), eta_at(parameters, iteration)
    opponent = geometric(pi_t, parameters.tau / eta)
    return IterationPlan((HalfStep(opponent, pi_t, regularised(pi_t, parameters.tau, eta), "squared", eta),))
