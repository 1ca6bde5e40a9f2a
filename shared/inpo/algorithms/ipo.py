"""IPO: identity preference optimisation (arXiv 2310.12036), and its online forms (arXiv 2403.08635).

The online forms are written with the regression solved in each round, which makes a round a best response; the paper's
single gradient steps are that regression, stopped early by the training budget.
"""

from shared.inpo.plan import (
    REFERENCE,
    HalfStep,
    Iterate,
    IterationPlan,
    Parameters,
    SamplingPolicy,
    algorithm,
    anchors,
    geometric,
)

TAU = {"tau": "strength of the KL to the reference policy; TRL's default: 0.1"}
MIXTURE = 0.125


@algorithm(needs=TAU)
def ipo(parameters: Parameters, iteration: int) -> IterationPlan:
    """(D_pi - D_ref - 1/(2 tau))^2 over pairs of the reference: ref · exp(P(· ≻ ref) / tau), in any iteration.

    Offline: the opponent is the policy of the data. More iterations see more prompts, not another opponent.
    """
    return _against(REFERENCE, parameters, iteration)


@algorithm(needs=TAU)
def online_ipo(parameters: Parameters, iteration: int) -> IterationPlan:
    """The same over pairs of pi_t: pi_{t+1} ∝ ref · exp(P(· ≻ pi_t) / tau). INPO with eta = tau."""
    return _against(Iterate(iteration - 1), parameters, iteration)


@algorithm(needs=TAU, takes=("mixture",))
def ipo_md(parameters: Parameters, iteration: int) -> IterationPlan:
    """The same over pairs of ref^m · pi_t^(1 - m), m = `mixture` (0.125): its fixed point is near the Nash policy."""
    mixture = MIXTURE if parameters.mixture is None else parameters.mixture
    return _against(geometric(Iterate(iteration - 1), mixture), parameters, iteration)


def _against(opponent: SamplingPolicy, parameters: Parameters, iteration: int) -> IterationPlan:
    start = Iterate(iteration - 1)
    return IterationPlan((HalfStep(opponent, start, anchors((REFERENCE, 1.0)), "squared", parameters.tau),))
