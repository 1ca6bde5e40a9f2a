"""ONPO: optimistic Nash policy optimisation (arXiv 2502.16852)."""

from shared.inpo.plan import REFERENCE, HalfStep, Iterate, IterationPlan, Parameters, algorithm, eta_at, regularised


@algorithm(needs={"eta": "an inverse step, larger means smaller steps"}, takes=("tau", "schedule"))
def onpo(parameters: Parameters, iteration: int) -> IterationPlan:
    """Optimistic mirror descent: two passes over the same pairs of pi_t, the last win rates predicting the next.

        hat_{t+1} ∝ a(hat_t) · exp(P(· ≻ pi_t) / eta)       a(q) = ref^(tau/eta) · q^(1 - tau/eta)
        pi_{t+1}  ∝ a(hat_{t+1}) · exp(P(· ≻ pi_t) / eta)

    No more generation and no more questions than INPO: one more pass of training. The uniform mixture of the pi_t
    approaches the Nash policy at O(1/T), with tau = 0 too.
    """
    pi_t, eta = Iterate(iteration - 1), eta_at(parameters, iteration)
    last = REFERENCE if iteration == 1 else Iterate(iteration - 1, half=1)
    hat = Iterate(iteration, half=1)
    return IterationPlan(
        (
            HalfStep(pi_t, last, regularised(last, parameters.tau, eta), "squared", eta),
            HalfStep(pi_t, hat, regularised(hat, parameters.tau, eta), "squared", eta, same_pairs_as=1),
        )
    )
