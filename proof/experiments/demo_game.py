"""Every algorithm in the demo's game, through the services, beside its own exact trajectory."""

from collections.abc import Sequence
from typing import Any

from proof.cases import Case, dpo, egpo, inpo
from proof.games import DEMO
from services.cli.demo import BETA, ETA

# The win rates of 16 responses each, in place of 64 disjoint pairs of 128.
ALL_PAIRS = {"sampling": {"num_responses": 16}, "selection": {"method": "all_pairs", "num_pairs": None}}
TAU = DEMO.tau

CONVERGENT: tuple[dict[str, Any], ...] = (inpo(DEMO), egpo(DEMO), {"name": "nash_mp", "tau": TAU})
MOVING_DPO = dpo(BETA, "previous")
OTHERS: tuple[dict[str, Any], ...] = (
    {"name": "inpo", "tau": TAU, "schedule": "theorem4"},
    {"name": "inpo_no_kl", "eta": ETA},
    {"name": "onpo", "eta": ETA, "tau": TAU},
    {"name": "nash_md", "eta": ETA, "tau": TAU},
    {"name": "ipo", "tau": TAU},
    {"name": "online_ipo", "tau": TAU},
    {"name": "ipo_md", "tau": TAU},
    {"name": "mnpo", "eta": ETA, "tau": TAU},
    {"name": "sppo", "eta": ETA},
    {"name": "dno", "eta": ETA},
    dpo(BETA, "initial"),
)


def case(algorithm: dict[str, Any], seed: int = 0) -> Case:
    """One algorithm in the demo's game."""
    return Case(DEMO, algorithm, seed=seed, changes=ALL_PAIRS if algorithm["name"] in ("sppo", "dno") else {})


def cases(seeds: Sequence[int]) -> list[Case]:
    """The convergent ones and iterative DPO from every seed, the others from the first."""
    repeated = [case(algorithm, seed) for seed in seeds for algorithm in (*CONVERGENT, MOVING_DPO)]
    return repeated + [case(algorithm, seeds[0]) for algorithm in OTHERS]
