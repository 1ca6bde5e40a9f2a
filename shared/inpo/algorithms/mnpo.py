"""MNPO: multiplayer Nash preference optimisation, with recent iterates as the other players (arXiv 2509.23102)."""

from shared.inpo.plan import (
    REFERENCE,
    HalfStep,
    Iterate,
    IterationPlan,
    Parameters,
    UniformMixture,
    algorithm,
    anchors,
    eta_at,
)

WEIGHTS = (1.0, 1.0)


@algorithm(needs={"eta": "its official code: 0.0075"}, takes=("tau", "ratio", "weights", "opponents"))
def mnpo(parameters: Parameters, iteration: int) -> IterationPlan:
    """(D_pi - r D_ref - (1 - r) sum_j w_j D_{pi_{t-j}} - 1/(2 eta))^2 over pairs of pi_t, the newest iterate first.

    r is `ratio`, tau / eta by default; the w_j are `weights` (1, 1), cut to the iterates that there are and
    normalised. One weight and r = tau / eta is INPO. So far the official code, whose opponent is pi_t and whose other
    players are anchors only; `opponents` = `mixture` samples from their uniform mixture instead (Eq. 11).
    """
    if parameters.ratio is not None and parameters.tau > 0.0:
        raise ValueError("give one of `tau` and `ratio`: `ratio` is tau / eta")
    pi_t, eta = Iterate(iteration - 1), eta_at(parameters, iteration)
    ratio = parameters.tau / eta if parameters.ratio is None else parameters.ratio
    weights = (parameters.weights or WEIGHTS)[:iteration]
    players = tuple(Iterate(iteration - 1 - j) for j in range(len(weights)))
    anchor = anchors(
        (REFERENCE, ratio),
        *((player, (1.0 - ratio) * w / sum(weights)) for player, w in zip(players, weights, strict=True)),
    )
    mixed = parameters.opponents == "mixture" and len(players) > 1
    if parameters.opponents == "mixture" and len(set(parameters.weights or WEIGHTS)) > 1:
        raise ValueError("with `opponents` = `mixture` the players are drawn uniformly: leave `weights` equal")
    return IterationPlan((HalfStep(UniformMixture(players) if mixed else pi_t, pi_t, anchor, "squared", eta),))
