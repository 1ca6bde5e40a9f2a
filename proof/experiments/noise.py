"""Noisy labels: answers turned round by chance shrink every advantage, which is a stronger tau by another name."""

from collections.abc import Sequence

from proof.cases import Case, inpo
from proof.games import DEMO
from proof.page import Page

TITLE: str = "Noisy labels"
SHARES = (0.1, 0.2, 0.3)


def cases(seeds: Sequence[int]) -> list[Case]:
    """INPO in the demo's game, with more and more of the answers turned round."""
    return [
        Case(DEMO, inpo(DEMO), seed=seeds[0], judge=DEMO.readers.mistaken(share), note=f"{share:.0%} turned round")
        for share in SHARES
    ]


def section(page: Page) -> None:
    """How far from the readers' Nash policy the mistaken readers' one is, and where the language model ends."""
    page.text(
        "Each answer is turned round with probability e, on top of the binary draw. P - 1/2 shrinks by 1 - 2e, so INPO "
        "at tau solves the true game at tau / (1 - 2e): labels lose strength, not direction. The gap is that of the "
        "true game at the demo's tau."
    )
    header = ("turned round", "gap of the mistaken game's Nash policy", "exact gap at 10", "gap at 10", "KL to exact")
    everybody = [Case(DEMO, inpo(DEMO), seed=page.seeds[0]), *cases(page.seeds)]
    rows: list[list[str]] = []
    for share, case in zip((0.0, *SHARES), everybody, strict=True):
        for course in page.courses([case]):
            mistaken = DEMO.around(course.counts[0], case.judge).nash()
            rows.append(
                [
                    f"{share:.0%}",
                    f"{course.game.duality_gap(mistaken):.4f}",
                    f"{course.exact_gaps[-1]:.4f}",
                    f"{course.gaps[-1]:.4f}",
                    f"{course.kls_to_exact[-1]:.4f}",
                ]
            )
    page.table(header, rows)
