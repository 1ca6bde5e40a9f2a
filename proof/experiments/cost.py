"""What the oracle costs as K grows: SPPO's win rates of all pairs against INPO's tournament."""

from collections.abc import Sequence

from proof.cases import Case, inpo
from proof.games import DEMO
from services.cli.demo import ETA

SIZES = (4, 8, 16, 32, 64)


def cases(seeds: Sequence[int]) -> list[Case]:
    """One iteration of each method at each K, trained on one pair a prompt."""
    return [case(method, size, seeds[0]) for size in SIZES for method in ("tournament", "best_worst")]


def case(method: str, size: int, seed: int) -> Case:
    """INPO with its tournament, or SPPO with best and worst by win rate over all pairs."""
    algorithm = inpo(DEMO) if method == "tournament" else {"name": "sppo", "eta": ETA}
    changes = {
        "sampling": {"num_responses": size},
        "selection": {"method": method, "num_pairs": None},
        "evaluation": {"num_responses": 8},
    }
    return Case(DEMO, algorithm, 1, seed, changes=changes)
