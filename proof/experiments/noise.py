"""Noisy labels: answers turned round by chance shrink every advantage, which is a stronger tau by another name."""

from collections.abc import Sequence

from proof.cases import Case, inpo
from proof.games import DEMO

SHARES = (0.1, 0.2, 0.3)


def cases(seeds: Sequence[int]) -> list[Case]:
    """INPO in the demo's game, with more and more of the answers turned round."""
    return [Case(DEMO, inpo(DEMO), seed=seeds[0], judge=DEMO.readers.mistaken(share)) for share in SHARES]
