"""INPO: iterative Nash policy optimisation (arXiv 2407.00617)."""

from shared.inpo.plan import HalfStep, Iterate, IterationPlan, Parameters, algorithm, eta_at, regularised


@algorithm(needs={"eta": "the paper: 0.0075"}, takes=("tau", "schedule"))
def inpo(parameters: Parameters, iteration: int) -> IterationPlan:
    """pi_{t+1} ∝ ref^(tau/eta) · pi_t^(1 - tau/eta) · exp(P(· ≻ pi_t) / eta) (Eq. 5).

    Learnt by (h_t - 1/(2 eta))^2 over pairs of pi_t (Eq. 8). tau = 0 is INPO without KL: the reference drops out.
    tau = eta drops pi_t: the best response to pi_t, which is online IPO solved in each round.
    """
    pi_t, eta = Iterate(iteration - 1), eta_at(parameters, iteration)
    return IterationPlan((HalfStep(pi_t, pi_t, regularised(pi_t, parameters.tau, eta), "squared", eta),))


@algorithm(needs={"eta": "an inverse step, larger means smaller steps"})
def inpo_no_kl(parameters: Parameters, iteration: int) -> IterationPlan:
    """pi_{t+1} ∝ pi_t · exp(P(· ≻ pi_t) / eta): INPO with tau = 0, which is Hedge (the paper's Table 3, "w/o KL").

    Only the uniform mixture of its iterates approaches a Nash policy; in a cycle the last iterate circles outwards.
    """
    return inpo(Parameters(eta=parameters.eta), iteration)
