"""An algorithm as data: what one iteration samples from, starts from, is anchored to, and which loss it minimises.

Every exact method of the papers is `pi_{t+1} ∝ anchor · exp(P(· ≻ mu) / eta)`, mu being whatever the pairs were sampled
from (INPO, arXiv 2407.00617, Eq. 5). An algorithm is therefore a small function from its parameters and t to an
`IterationPlan`; nothing else in the system knows its name. Weight versions are numbers here: 0 is the reference policy
and t is the policy that iteration t+1 samples from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

LossName: TypeAlias = Literal["squared", "logistic"]
StepSchedule: TypeAlias = Literal["constant", "theorem4"]


@dataclass(frozen=True, slots=True)
class Midpoint:
    """What half-step `half` of an iteration makes on the way to that iteration's policy, e.g. pi_{t+1/2}."""

    iteration: int
    half: int = 1


PolicyRef: TypeAlias = int | Midpoint


@dataclass(frozen=True, slots=True)
class Anchor:
    """One factor `policy ** exponent` of the anchor; `version` is the policy's weight version number."""

    version: PolicyRef
    exponent: float


@dataclass(frozen=True, slots=True)
class Mixture:
    """Arithmetic mixture of sequence distributions: each response is drawn from one policy, drawn by weight."""

    parts: tuple[tuple[PolicyRef, float], ...]


@dataclass(frozen=True, slots=True)
class Geometric:
    """The policy that goes with reference^exponent · policy^(1 - exponent)."""

    policy: PolicyRef
    reference: PolicyRef
    exponent: float


@dataclass(frozen=True, slots=True)
class HalfStep:
    """One regression: sample pairs from `sample_from`, start training at `start_from`, stay close to the anchors.

    `scale` is eta for the squared loss (target 1 / (2 eta), an inverse step: larger means smaller steps) and beta for
    the logistic loss.
    """

    sample_from: PolicyRef | Mixture | Geometric
    start_from: PolicyRef
    anchors: tuple[Anchor, ...]
    loss: LossName
    scale: float
    same_pairs: bool = False


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """One iteration: its half-steps in order. INPO and iterative DPO have one."""

    half_steps: tuple[HalfStep, ...]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The knobs of the algorithms, in the papers' letters; which of them are read depends on the algorithm."""

    eta: float = 0.0
    tau: float = 0.0
    beta: float = 0.0
    schedule: StepSchedule = "constant"
    moving_reference: bool = True


def eta_at(parameters: Parameters, iteration: int) -> float:
    """The inverse step eta_t of iteration t, counted from 1: larger means a smaller step.

    `theorem4` is `eta_t = tau (t + 2) / 2` (INPO, Theorem 4), under which the last iterate converges at O(1/T).
    """
    if parameters.schedule == "theorem4":
        return parameters.tau * (iteration + 2) / 2
    return parameters.eta


def inpo(parameters: Parameters, iteration: int) -> IterationPlan:
    """INPO: anchors ref^(tau/eta) · pi_t^(1 - tau/eta), pairs from pi_t (INPO, Eq. 8).

    tau = 0 is INPO without KL: the reference drops out. tau = eta drops pi_t (online IPO solved in each round). Outside
    0 <= tau <= eta, eta > 0 an anchor would have a negative exponent: a ValueError.
    """
    current, eta = iteration - 1, eta_at(parameters, iteration)
    if not (eta > 0.0 and 0.0 <= parameters.tau <= eta):
        raise ValueError(f"inpo needs eta > 0 and 0 <= tau <= eta, not eta = {eta} and tau = {parameters.tau}")
    share = parameters.tau / eta
    anchors = (Anchor(0, share), Anchor(current, 1 - share))
    return _one_step(current, anchors, "squared", eta)


def iterative_dpo(parameters: Parameters, iteration: int) -> IterationPlan:
    """Iterative DPO (arXiv 2405.07863); its public scripts take the previous iterate as the reference policy."""
    current = iteration - 1
    if not parameters.beta > 0.0:
        raise ValueError(f"iterative_dpo needs beta > 0, not {parameters.beta}")
    reference = current if parameters.moving_reference else 0
    return _one_step(current, (Anchor(reference, 1.0),), "logistic", parameters.beta)


def _one_step(current: int, anchors: tuple[Anchor, ...], loss: LossName, scale: float) -> IterationPlan:
    merged: dict[PolicyRef, float] = {}
    for anchor in anchors:
        merged[anchor.version] = merged.get(anchor.version, 0.0) + anchor.exponent
    kept = tuple(Anchor(version, exponent) for version, exponent in merged.items() if exponent > 0.0)
    return IterationPlan((HalfStep(current, current, kept, loss, scale),))


ALGORITHMS: dict[str, Callable[[Parameters, int], IterationPlan]] = {"inpo": inpo, "iterative_dpo": iterative_dpo}
