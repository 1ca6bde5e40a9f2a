"""Two steps from one anchor: EGPO (arXiv 2503.08942) and Nash-MP, the proximal point method (arXiv 2505.19731)."""

from shared.inpo.plan import HalfStep, Iterate, IterationPlan, Parameters, algorithm, eta_at, regularised

PROX = 0.5


@algorithm(needs={"eta": "1 / the paper's step; tau + 1/2 always converges"}, takes=("tau", "schedule"))
def egpo(parameters: Parameters, iteration: int) -> IterationPlan:
    """Half-step 1 plays against pi_t, half-step 2 against its result pi_{t+1/2}; both are anchored to pi_t.

    pi_{t+1/2} ∝ ref^(tau/eta) · pi_t^(1 - tau/eta) · exp(P(· ≻ pi_t) / eta), and pi_{t+1} the same with pi_{t+1/2} as
    the opponent.
    """
    pi_t, half, eta = Iterate(iteration - 1), Iterate(iteration, half=1), eta_at(parameters, iteration)
    anchor = regularised(pi_t, parameters.tau, eta)
    return IterationPlan((HalfStep(pi_t, pi_t, anchor, "squared", eta), HalfStep(half, pi_t, anchor, "squared", eta)))


@algorithm(takes=("tau", "prox"))
def nash_mp(parameters: Parameters, iteration: int) -> IterationPlan:
    """prox(mu) = argmin -P(pi ≻ mu) + tau KL(pi || ref) + lambda KL(pi || pi_t), at pi_t, then at prox(pi_t).

    tau is the paper's beta. lambda is `prox`, 1/2 by default: the Lipschitz constant of P, with which KL to the Nash
    policy shrinks by 1 / (1 + 2 tau) in every iteration. The same plan as EGPO's at eta = tau + lambda.
    """
    eta = parameters.tau + (PROX if parameters.prox is None else parameters.prox)
    return egpo(Parameters(eta=eta, tau=parameters.tau), iteration)
