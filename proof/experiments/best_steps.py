"""The fair comparison: iterative DPO with the best beta of a grid beside INPO and EGPO with the best eta of theirs."""

from collections.abc import Sequence
from typing import Any

from proof.cases import Case, dpo, egpo, inpo
from proof.games import DEMO

GRIDS: dict[str, tuple[dict[str, Any], ...]] = {
    "INPO": tuple(inpo(DEMO, eta) for eta in (0.3, 0.45, 0.65, 1.0)),
    "EGPO": tuple(egpo(DEMO, eta) for eta in (0.45, 0.65, 1.0)),
    "iterative DPO, fixed reference": tuple(dpo(beta, "initial") for beta in (0.4, 0.6, 0.8, 1.0, 2.0)),
    "iterative DPO, moving reference": tuple(dpo(beta, "previous") for beta in (0.8, 2.0, 4.0)),
}


def cases(seeds: Sequence[int]) -> list[Case]:
    """Every entry of every grid, from the first seed."""
    return [Case(DEMO, algorithm, seed=seeds[0]) for grid in GRIDS.values() for algorithm in grid]
