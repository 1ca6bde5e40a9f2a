"""Tournaments against random pairs at equal oracle cost.

A tournament of 8 responses costs 11 comparisons and yields one pair, 11 random pairs cost the same. 96 prompts an
iteration make 1,056 comparisons.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from proof.cases import Case, inpo
from proof.games import DEMO

COPIES = 6
TOURNAMENT: dict[str, Mapping[str, Any]] = {
    "sampling": {"num_responses": 8},
    "selection": {"method": "tournament", "num_pairs": None},
}
VARIANTS: dict[str, dict[str, Mapping[str, Any]]] = {
    "11 random pairs": {"sampling": {"num_responses": 22}, "selection": {"num_pairs": 11}},
    "one pair of a tournament of 8": TOURNAMENT,
    # As many optimizer steps as the random pairs have: 33 an epoch times 4.
    "the same, 44 epochs": TOURNAMENT | {"training": {"num_epochs": 44}},
}


def cases(seeds: Sequence[int]) -> list[Case]:
    """INPO in the demo's game by each selection, from the first seed."""
    return [Case(DEMO, inpo(DEMO), seed=seeds[0], changes=changes, copies=COPIES) for changes in VARIANTS.values()]
