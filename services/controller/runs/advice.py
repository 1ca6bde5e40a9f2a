"""What theory says against a run before it begins. Nothing here refuses a run: every warning is about a guarantee."""

from collections.abc import Iterator
from functools import lru_cache

from shared.contracts.rest.runs import Advice
from shared.contracts.spec import RunSpec
from shared.inpo.algorithms import algorithm_named
from shared.inpo.plan import Algorithm, Parameters
from shared.inpo.stability import HARDEST_CYCLE, frozen, growth, settles, smallest_stable

_STEP_PARAMETERS = ("eta", "prox", "tau")
_LARGEST_WIN_RATE_STEP = 1.0
_SKEWED_SELECTIONS = ("tournament", "best_worst")


def advice(spec: RunSpec) -> list[Advice]:
    """The warnings for a run, each with the field that it is about and what would help; a pure function of the spec."""
    return [*_unstable(spec), *_skewed(spec), *_beyond_win_rates(spec)]


def _unstable(spec: RunSpec) -> Iterator[Advice]:
    """A constant step that circles in some cyclic game. A reward model's answers have no cycles."""
    if spec.oracle.judge.kind == "reward_model":
        return
    parameters = frozen(spec.algorithm.parameters(), spec.iterations)
    found = _stability(spec.algorithm.name, parameters)
    if found is None:
        return
    factor, name, needed = found
    if settles(factor):
        return
    scheduled = spec.algorithm.schedule != "constant"
    at = f" (in the last iteration of schedule {spec.algorithm.schedule})" if scheduled else ""
    tau = f" and tau = {parameters.tau:g}" if name != "tau" and parameters.ratio is None else ""
    yield Advice(
        field="algorithm.schedule" if scheduled else f"algorithm.{name}",
        message=f"{spec.algorithm.name} with {name} = {getattr(parameters, name):g}{at}{tau} "
        f"does not settle in the hardest cyclic game: near the Nash policy a deviation grows {factor:.4g}-fold an "
        f"iteration; {_remedy(name, needed)}. Training that stops short of the loss's minimum takes smaller steps than "
        "that: compare margin_mean with target_mean",
    )


def _remedy(name: str, needed: float | None) -> str:
    if needed is None:
        return "no step of this algorithm does; at best the average of all iterates approaches the Nash policy"
    return f"from {name} = {needed:.3g} on it settles in every game"


def _skewed(spec: RunSpec) -> Iterator[Advice]:
    """The champion against the worst is not the i.i.d. pair of the theory (INPO, Proposition 6)."""
    claims = [
        name
        for name, claimed in (
            ("schedule theorem4", spec.algorithm.schedule == "theorem4"),
            ("evaluation.duality_gap", spec.evaluation.duality_gap is not None),
        )
        if claimed
    ]
    if spec.selection.method in _SKEWED_SELECTIONS and claims:
        yield Advice(
            field="selection.method",
            message=f"{spec.selection.method} with {' and '.join(claims)}: convergence is proven for pairs drawn "
            "i.i.d. from the policy. In exact games the best of 8 against the worst makes steps 1.9 times as long and "
            "stays at a duality gap of .03 to .05; random_pairs is what the theory is about",
        )


def _beyond_win_rates(spec: RunSpec) -> Iterator[Advice]:
    """The regression of log-ratios on win rates replaces the log-partition by 1 / (2 eta): true for small steps."""
    parameters = spec.algorithm.parameters()
    half_steps = algorithm_named(spec.algorithm.name)(parameters, 1).half_steps
    steps = [1.0 / half.scale for half in half_steps if half.loss == "win_rate_squared"]
    if steps and max(steps) > _LARGEST_WIN_RATE_STEP * (1.0 + 1e-9):
        yield Advice(
            field="algorithm.eta",
            message=f"{spec.algorithm.name} with 1/eta = {max(steps):.4g}: its loss stands for the multiplicative "
            "update up to 1/eta = 1 only (at 10 they are .06 apart in total variation, at 1000 .3, where it "
            "cuts off every response that wins less than half)",
        )


@lru_cache(maxsize=256)
def _stability(name: str, parameters: Parameters) -> tuple[float, str, float | None] | None:
    """Growth in the hardest game, the parameter that sets the step, and from which value on it settles."""
    algorithm = algorithm_named(name)
    factor = growth(algorithm, parameters, HARDEST_CYCLE)
    if factor is None:
        return None
    step = _step_parameter(algorithm)
    needed = smallest_stable(algorithm, parameters, step, HARDEST_CYCLE) if not settles(factor) else None
    return factor, step, needed


def _step_parameter(algorithm: Algorithm) -> str:
    return next(name for name in _STEP_PARAMETERS if name in algorithm.parameters or name == "tau")
