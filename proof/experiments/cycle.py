"""The symmetric cycle: who converges on it, who runs from vertex to vertex, and who drifts."""

from collections.abc import Sequence
from typing import Any

from proof.cases import Case, dpo, egpo, inpo
from proof.experiments.demo_game import ALL_PAIRS
from proof.games import SYMMETRIC

ITERATIONS = 15
ETA = 0.6
CONVERGENT: tuple[dict[str, Any], ...] = (
    inpo(SYMMETRIC, ETA),
    egpo(SYMMETRIC),
    {"name": "nash_mp", "tau": SYMMETRIC.tau},
)
DIVERGENT = (dpo(0.8, "previous"), dpo(0.4, "initial"))
DRIFTING: tuple[dict[str, Any], ...] = ({"name": "inpo_no_kl", "eta": ETA}, {"name": "sppo", "eta": ETA})


def case(algorithm: dict[str, Any], seed: int) -> Case:
    """One algorithm on the symmetric cycle."""
    changes = ALL_PAIRS if algorithm["name"] == "sppo" else {}
    return Case(SYMMETRIC, algorithm, ITERATIONS, seed, changes=changes)


def cases(seeds: Sequence[int]) -> list[Case]:
    """All of them from every seed."""
    return [case(algorithm, seed) for seed in seeds for algorithm in (*CONVERGENT, *DIVERGENT, *DRIFTING)]
