"""Tournaments against random pairs at equal oracle cost.

A tournament of 8 responses costs 11 comparisons and yields one pair; 11 random pairs cost the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from proof.cases import Case, inpo
from proof.games import DEMO
from proof.page import Page
from proof.results import Course

TITLE: str = "Tournament against random pairs, at equal oracle cost"
ITERATIONS = 15
MARKS = (1, 3, 5, 10, ITERATIONS)
SMALL_BATCHES = {"batch_size": 8, "micro_batch_size": 8}
TOURNAMENT: dict[str, Mapping[str, Any]] = {
    "sampling": {"num_responses": 8},
    "selection": {"method": "tournament", "num_pairs": None},
    "training": SMALL_BATCHES,
}
RANDOM_PAIRS: dict[str, Mapping[str, Any]] = {
    "sampling": {"num_responses": 22},
    "selection": {"num_pairs": 11},
    "training": SMALL_BATCHES,
}
VARIANTS: dict[str, dict[str, Mapping[str, Any]]] = {
    "11 random pairs": RANDOM_PAIRS,
    "one pair of a tournament of 8": TOURNAMENT,
    # As many optimizer steps as the random pairs have.
    "the same, 44 epochs": TOURNAMENT | {"training": SMALL_BATCHES | {"num_epochs": 44}},
}


def cases(seeds: Sequence[int]) -> list[Case]:
    """INPO in the demo's game by each selection, from the first seed."""
    return [
        Case(DEMO, inpo(DEMO), ITERATIONS, seeds[0], changes=changes, note=name) for name, changes in VARIANTS.items()
    ]


def section(page: Page) -> None:
    """What each selection makes of the same number of comparisons."""
    page.text(
        f"INPO in the demo's game, {ITERATIONS} iterations of 176 comparisons: a sixth of the other runs', so noisier. "
        "A tournament's pair is the best against the worst of 8, not two draws of the policy: "
        "its step is longer than eta says (about twice in the exact game of 8 responses), and where it settles is not "
        "the Nash policy. It needs fewer pairs to be trained on: that is what it is for."
    )
    found = [
        (name, course)
        for name, case in zip(VARIANTS, cases(page.seeds), strict=True)
        for course in page.courses([case])
    ]
    header = (
        "selection",
        "comparisons",
        "pairs",
        "s of training",
        "gap at 1",
        "at 3",
        "at 5",
        "at 10",
        f"at {ITERATIONS}",
        "last three",
    )
    page.table(header, [_row(name, course) for name, course in found])
    if len(found) == len(VARIANTS):
        comparisons = {course.result.iterates[-1].comparisons for _, course in found}
        page.claim("all three had the same number of comparisons an iteration", len(comparisons) == 1)


def _row(name: str, course: Course) -> list[str]:
    last = course.result.iterates[-1]
    return [
        name,
        str(last.comparisons),
        f"{last.metrics['num_pairs']:.0f}",
        f"{last.metrics['train_s']:.1f}",
        *(f"{course.gaps[mark]:.4f}" for mark in MARKS),
        f"{course.gaps[-3:].mean():.4f}",
    ]
