"""{the readers' preference, its Bradley-Terry reward} x {with KL, without}: the INPO paper's Table 3 in small."""

from collections.abc import Sequence

import numpy as np

from proof.cases import Case, inpo
from proof.games import DEMO, Rewards
from proof.page import Page
from proof.results import Course
from services.cli.demo.model import STYLE_SHARES
from services.cli.demo.run import ETA

TITLE: str = "{preference, reward} × {with KL, without}: the paper's Table 3 in small"
CORNERS = (
    "preference, with KL",
    "preference, without KL",
    "reward, with KL",
    "reward, without KL",
)
# The reference policy's pairs, as the demo's text asks for them; one response in a thousand is invalid.
REFERENCE = np.array([0.001, *(0.999 * share for share in STYLE_SHARES.values())])
REWARDS = Rewards.fitted(DEMO.readers.matrix(), REFERENCE)
WITHOUT_KL = {"name": "inpo_no_kl", "eta": ETA}


def cases(seeds: Sequence[int]) -> list[Case]:
    """The four corners, from the first seed."""
    return [
        Case(DEMO, algorithm, seed=seeds[0], judge=judge, note="" if judge is None else "fitted reward")
        for judge in (None, REWARDS)
        for algorithm in (inpo(DEMO), WITHOUT_KL)
    ]


def section(page: Page) -> None:
    """The four corners side by side, with the length of their responses."""
    rewards = ", ".join(f"{value:.2f}" for value in REWARDS.rewards[1:])
    page.text(
        "The reward is the Bradley-Terry fit to the readers' preferences between the reference policy's responses: "
        f"plain, poetic, pirate = {rewards}. It ranks what the readers' cycle does not, and its own Nash policy is "
        "another one. Gap and win rates are the readers' in every row; the judge's own gap is that of the game that it "
        "plays. *Worst* is the win rate against the style that beats it most: a high win rate against the reference "
        "policy says nothing about it. Poetic and pirate responses are longer than plain ones: length follows style, "
        "nobody rewards it."
    )
    header = (
        "judge",
        "gap",
        "the judge's own gap",
        "win rate against ref",
        "worst",
        "plain",
        "poetic",
        "pirate",
        "KL to ref",
        "tokens",
    )
    found = [
        (name, course) for name, case in zip(CORNERS, cases(page.seeds), strict=True) for course in page.courses([case])
    ]
    page.table(header, [_row(name, course) for name, course in found])
    start = found[0][1]
    tokens = start.result.iterates[0].mean_response_tokens
    page.text(f"The reference policy: gap {start.gaps[0]:.4f}, {tokens:.1f} tokens a response.")
    if len(found) == len(CORNERS):
        gaps = [course.gaps[-1] for _, course in found]
        page.claim("preference with KL ends nearest to the Nash policy", min(gaps) == gaps[0])


def _row(name: str, course: Course) -> list[str]:
    last, policy = course.result.iterates[-1], course.policies[-1]
    own = course.case.game.around(course.counts[0], course.case.judge)
    return [
        name,
        f"{course.gaps[-1]:.4f}",
        f"{own.duality_gap(policy):.4f}",
        f"{float(course.game.win_rates(course.game.reference) @ policy):.3f}",
        f"{1.0 - float(course.game.win_rates(policy).max()):.3f}",
        *(f"{share:.3f}" for share in policy[1:]),
        f"{last.kl or 0.0:.2f}",
        f"{last.mean_response_tokens:.1f}",
    ]
