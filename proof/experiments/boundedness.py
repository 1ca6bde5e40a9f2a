"""Assumption A, |log pi_t / ref| <= B: measured along runs, and driven up on purpose by readers without doubt."""

from collections.abc import Sequence

from proof.cases import Case, inpo
from proof.games import DEMO, Readers

SURE = Readers(1.0, 1.0, 1.0, 1.0)
ETAS = (0.45, 0.15)


def cases(seeds: Sequence[int]) -> list[Case]:
    """INPO under readers who never disagree, with the demo's step and with the largest that INPO allows."""
    return [Case(DEMO, inpo(DEMO, eta), seed=seeds[0], judge=SURE) for eta in ETAS]
