"""An algorithm as data: what one iteration samples from, starts from, is anchored to, and which loss it minimises.

Every exact method of the papers is `pi_{t+1} ∝ anchor · exp(P(· ≻ mu) / eta)`, mu being whatever the pairs were sampled
from (INPO, arXiv 2407.00617, Eq. 5). An algorithm is therefore a small function from its parameters and t to an
`IterationPlan`, in a file of its own in `shared.inpo.algorithms`; nothing else in the system knows its name.

One letter has one meaning everywhere. eta is an inverse step: it multiplies KL(pi || pi_t), and larger means smaller
steps (Nash-MD's and EGPO's papers call 1/eta the step; SPPO's code calls our eta beta). tau weighs KL(pi || ref).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias, get_args

LossName: TypeAlias = Literal["squared", "logistic", "win_rate_squared", "win_rate_logistic"]
StepSchedule: TypeAlias = Literal["constant", "theorem4"]
ReferenceChoice: TypeAlias = Literal["previous", "initial"]
Opponents: TypeAlias = Literal["current", "mixture"]

_CHOICES = {
    "schedule": get_args(StepSchedule),
    "reference": get_args(ReferenceChoice),
    "opponents": get_args(Opponents),
}


@dataclass(frozen=True, slots=True)
class Iterate:
    """The policy after an iteration, or (with `half`) after one half-step of it; iteration 0 is the reference."""

    iteration: int
    half: int | None = None


REFERENCE = Iterate(0)


@dataclass(frozen=True, slots=True)
class UniformMixture:
    """Each response is sampled from one of the iterates, drawn uniformly: the arithmetic mixture of distributions."""

    iterates: tuple[Iterate, ...]


@dataclass(frozen=True, slots=True)
class GeometricMixture:
    """`ref^m · pi^(1 - m)`, normalised over whole responses, with m = `reference_exponent` between 0 and 1."""

    iterate: Iterate
    reference_exponent: float


SamplingPolicy: TypeAlias = Iterate | UniformMixture | GeometricMixture


@dataclass(frozen=True, slots=True)
class Anchor:
    """One factor `iterate ** exponent` of the anchor."""

    iterate: Iterate
    exponent: float


@dataclass(frozen=True, slots=True)
class HalfStep:
    """One regression: sample pairs from `sample_from`, start training at `start_from`, stay close to the anchors.

    `scale` is eta for the squared losses (target 1 / (2 eta)) and for `win_rate_logistic`, beta for `logistic`. With
    `same_pairs_as` = 1 nothing is sampled or judged: it trains on the pairs of half-step 1, whose `sample_from` it
    repeats. Losses named `win_rate_…` need the win rate of both responses of a pair against the sampling policy.
    """

    sample_from: SamplingPolicy
    start_from: Iterate
    anchors: tuple[Anchor, ...]
    loss: LossName
    scale: float
    same_pairs_as: int | None = None

    @property
    def needs_win_rates(self) -> bool:
        """Every response must have been compared with all others of its prompt, not with its partner only."""
        return self.loss in ("win_rate_squared", "win_rate_logistic")

    @property
    def iterates(self) -> frozenset[Iterate]:
        """The policies that must exist before this half-step can begin."""
        return frozenset((self.start_from, *_iterates_of(self.sample_from), *(a.iterate for a in self.anchors)))


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """One iteration: its half-steps in order. The last one's result is the iteration's."""

    half_steps: tuple[HalfStep, ...]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The knobs of all algorithms; which of them are read depends on the algorithm. None is not given.

    A ValueError names the one that is out of its range.
    """

    eta: float | None = None
    tau: float = 0.0
    schedule: StepSchedule = "constant"
    beta: float | None = None
    reference: ReferenceChoice = "previous"
    mixture: float | None = None
    prox: float | None = None
    ratio: float | None = None
    weights: tuple[float, ...] | None = None
    opponents: Opponents = "current"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be {' or '.join(choices)}, not {getattr(self, name)!r}")
        for name, value in (("eta", self.eta), ("beta", self.beta), ("prox", self.prox)):
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"`{name}` must be positive and finite, not {value}")
        if not (math.isfinite(self.tau) and self.tau >= 0.0):
            raise ValueError(f"`tau` must be finite and at least 0, not {self.tau}")
        for name, value in (("mixture", self.mixture), ("ratio", self.ratio)):
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"`{name}` must be in [0, 1], not {value}")
        if self.weights is not None and not (
            self.weights and all(math.isfinite(w) and w >= 0.0 for w in self.weights) and self.weights[0] > 0.0
        ):
            raise ValueError(f"`weights` must be non-negative numbers, the first one positive, not {self.weights}")

    def given(self) -> frozenset[str]:
        """Names of the parameters that differ from their defaults."""
        return frozenset(item.name for item in fields(self) if getattr(self, item.name) != item.default)


Planner: TypeAlias = Callable[[Parameters, int], IterationPlan]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A planner with its name and the names of the parameters that it reads."""

    name: str
    planner: Planner
    needs: Mapping[str, str] = field(repr=False)
    takes: frozenset[str] = field(repr=False)

    def __call__(self, parameters: Parameters, iteration: int) -> IterationPlan:
        """The plan of an iteration, counted from 1. A ValueError names the parameter that is missing or unfit.

        Parameters that belong to other algorithms are ignored here; `shared.inpo.algorithms.check` refuses them.
        """
        if iteration < 1:
            raise ValueError(f"iterations count from 1, not {iteration}")
        for name, hint in self.needs.items():
            if name not in parameters.given() and not (name == "eta" and parameters.schedule == "theorem4"):
                raise ValueError(f"{self.name} needs `{name}` ({hint})")
        return self.planner(parameters, iteration)

    @property
    def parameters(self) -> frozenset[str]:
        """Names of all parameters that it reads."""
        return self.takes | frozenset(self.needs)


def algorithm(*, needs: Mapping[str, str] | None = None, takes: tuple[str, ...] = ()) -> Callable[[Planner], Algorithm]:
    """Make an `Algorithm` of a planner: its name is the function's.

    `needs` are parameters that must be given, each with a hint for whoever left it out; `takes` are optional ones.
    """

    def of(planner: Planner) -> Algorithm:
        name: str = getattr(planner, "__name__", "")
        return Algorithm(name, planner, dict(needs or {}), frozenset(takes))

    return of


def eta_at(parameters: Parameters, iteration: int) -> float:
    """The inverse step eta_t of iteration t, counted from 1: larger means a smaller step.

    `theorem4` is `eta_t = tau (t + 2) / 2` (INPO, Theorem 4), under which the last iterate converges at O(1/T).
    0 <= tau <= eta is checked: outside it an anchor would have a negative exponent.
    """
    if parameters.schedule == "theorem4":
        if parameters.tau <= 0.0:
            raise ValueError("schedule `theorem4` needs `tau` > 0: eta_t = tau (t + 2) / 2")
        if parameters.eta is not None:
            raise ValueError("schedule `theorem4` derives eta from tau; leave `eta` out")
        return parameters.tau * (iteration + 2) / 2
    if parameters.eta is None:
        raise ValueError("a constant schedule needs `eta`")
    if parameters.tau > parameters.eta:
        raise ValueError(
            f"`tau` ({parameters.tau}) must not exceed `eta` ({parameters.eta}); INPO's paper: tau = eta / 3"
        )
    return parameters.eta


def anchors(*factors: tuple[Iterate, float]) -> tuple[Anchor, ...]:
    """The anchor `product of iterate ** exponent`: equal iterates merged, those with exponent 0 left out."""
    merged: dict[Iterate, float] = {}
    for iterate, exponent in factors:
        merged[iterate] = merged.get(iterate, 0.0) + exponent
    return tuple(Anchor(iterate, exponent) for iterate, exponent in merged.items() if exponent != 0.0)


def regularised(iterate: Iterate, tau: float, eta: float) -> tuple[Anchor, ...]:
    """`ref^(tau/eta) · pi^(1 - tau/eta)`, the anchor of mirror descent on the regularised game (INPO, Eq. 5)."""
    return anchors((REFERENCE, tau / eta), (iterate, 1.0 - tau / eta))


def geometric(iterate: Iterate, reference_exponent: float) -> SamplingPolicy:
    """`ref^m · pi^(1 - m)`, or the policy itself where that is a single one."""
    if reference_exponent == 0.0 or iterate == REFERENCE:
        return iterate
    return REFERENCE if reference_exponent == 1.0 else GeometricMixture(iterate, reference_exponent)


def _iterates_of(policy: SamplingPolicy) -> tuple[Iterate, ...]:
    match policy:
        case Iterate():
            return (policy,)
        case UniformMixture():
            return policy.iterates
        case GeometricMixture():
            return (REFERENCE, policy.iterate)
