"""The algorithms of the papers, each in a file of its own; this package finds every `Algorithm` in its modules.

A new one is a new file here (docs/adding-an-algorithm.md): no list, no branch and no service has to learn its name.
"""

import importlib
import pkgutil
from collections.abc import Iterable

from shared.inpo.plan import Algorithm, IterationPlan, Parameters


def found(modules: Iterable[str]) -> dict[str, Algorithm]:
    """All algorithms that these modules (by their full names) define, by name; two of one name are a ValueError."""
    algorithms: dict[str, Algorithm] = {}
    for module in modules:
        for value in vars(importlib.import_module(module)).values():
            if isinstance(value, Algorithm) and algorithms.setdefault(value.name, value) is not value:
                raise ValueError(f"two algorithms are named {value.name}; one of them is in {module}")
    return algorithms


ALGORITHMS = found(sorted(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))


def algorithm_named(name: str) -> Algorithm:
    """The algorithm of this name; a ValueError lists the names that there are."""
    if name not in ALGORITHMS:
        raise ValueError(f"`name` must be one of {', '.join(sorted(ALGORITHMS))}, not {name}")
    return ALGORITHMS[name]


def check(name: str, parameters: Parameters) -> IterationPlan:
    """The plan of the first iteration, after everything that could be wrong with the parameters was looked for.

    A ValueError names the parameter that is missing, unfit, or another algorithm's, and what to do.
    """
    chosen = algorithm_named(name)
    for foreign in sorted(parameters.given() - chosen.parameters):
        owners = ", ".join(sorted(other.name for other in ALGORITHMS.values() if foreign in other.parameters))
        raise ValueError(f"`{foreign}` is a parameter of {owners}, not of {name}; leave it out")
    return chosen(parameters, 1)
