"""Iterative DPO (arXiv 2405.07863), with either of the references that its paper and its scripts take."""

from shared.inpo.plan import REFERENCE, HalfStep, Iterate, IterationPlan, Parameters, algorithm, anchors


@algorithm(needs={"beta": "its public scripts: 0.1"}, takes=("reference",))
def iterative_dpo(parameters: Parameters, iteration: int) -> IterationPlan:
    """-log sigma(beta (D_pi - D_r)) over pairs of pi_t.

    r is pi_t in the public scripts (`reference` = `previous`), ref in the paper (`initial`). The minimiser is
    r · exp(reward / beta), reward being the Bradley-Terry fit of the preferences between responses of pi_t: it cannot
    express a cycle. With r = pi_t it is DNO-Prct (arXiv 2404.03715), and nothing holds it near ref.
    """
    pi_t, beta = Iterate(iteration - 1), parameters.beta or 0.0
    reference = REFERENCE if parameters.reference == "initial" else pi_t
    return IterationPlan((HalfStep(pi_t, pi_t, anchors((reference, 1.0)), "logistic", beta),))
