"""Constant steps: the last iterate against the uniform mixture, whose version is drawn for each response."""

from collections.abc import Sequence

from proof.cases import Case, inpo
from proof.experiments.cycle import ITERATIONS
from proof.games import SYMMETRIC

# Below the stability threshold: the last iterate circles.
ETA = 0.3


def cases(seeds: Sequence[int]) -> list[Case]:
    """INPO on the symmetric cycle with too large a step, from every seed."""
    return [Case(SYMMETRIC, inpo(SYMMETRIC, ETA), ITERATIONS, seed) for seed in seeds]
