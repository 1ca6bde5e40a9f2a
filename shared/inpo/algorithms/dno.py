"""DNO: direct Nash optimisation (arXiv 2404.03715). Its practical form, DNO-Prct, is `iterative_dpo`."""

from shared.inpo.plan import HalfStep, Iterate, IterationPlan, Parameters, algorithm, anchors


@algorithm(needs={"eta": "an inverse step, larger means smaller steps"})
def dno(parameters: Parameters, iteration: int) -> IterationPlan:
    """Logistic regression of eta (D_pi - D_{pi_t}) on labels sigma(r(y) - r(y')), r = P(· ≻ pi_t).

    Its minimiser is pi_{t+1} ∝ pi_t · exp(r / eta), Hedge: nothing holds it near ref.
    """
    pi_t, eta = Iterate(iteration - 1), parameters.eta or 0.0
    return IterationPlan((HalfStep(pi_t, pi_t, anchors((pi_t, 1.0)), "win_rate_logistic", eta),))
