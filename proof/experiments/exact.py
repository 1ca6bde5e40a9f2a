"""Every algorithm in exact games: its own plan, each loss replaced by its exact minimiser."""

from collections.abc import Sequence
from typing import Any

from proof.cases import Case, exact_policies, label
from proof.page import Page
from services.cli.game.sources import PRESETS, Choice
from shared.inpo.games import FiniteGame

TITLE: str = "Exact games × every algorithm"
GAMES = ("biased", "rock-paper-scissors", "weak-kl", "random")
ALGORITHMS: tuple[dict[str, Any], ...] = (
    {"name": "inpo"},
    {"name": "inpo", "eta": "theorem4"},
    {"name": "inpo_no_kl"},
    {"name": "onpo"},
    {"name": "egpo"},
    {"name": "nash_mp"},
    {"name": "nash_md"},
    {"name": "ipo"},
    {"name": "online_ipo"},
    {"name": "ipo_md"},
    {"name": "mnpo"},
    {"name": "sppo"},
    {"name": "dno"},
    {"name": "iterative_dpo", "reference": "moving"},
    {"name": "iterative_dpo", "reference": "fixed"},
)
MARKS = (1, 10, 100, 1000)
CONVERGENT = ("egpo", "nash_mp", "inpo eta=theorem4")
NEAR = 0.01


def cases(seeds: Sequence[int]) -> list[Case]:
    """None."""
    return []


def section(page: Page) -> None:
    """Duality gaps at some iterations, a table a game."""
    page.text(
        "numpy in float64; eta = tau + 1/2 where nothing else is said, beta = 4 tau. A cell is the duality gap, 0 at "
        "the Nash policy. `inpo game` shows the same for a game of your own."
    )
    for name in GAMES:
        named = PRESETS[name](Choice(name, None, 0, 8, 1, None))
        game = named.game
        page.text(
            f"**{named.title}**, tau {game.tau:g}: gap of the reference policy {game.duality_gap(game.reference):.4f}, "
            f"residual of the Nash policy {game.nash_residual(game.nash()):.0e}, a constant eta is stable above "
            f"{game.stability_threshold():.4g}."
        )
        rows = [(label(algorithm), *_gaps(game, algorithm)) for algorithm in ALGORITHMS]
        page.table(("algorithm", *(f"gap at {mark}" for mark in MARKS)), rows)
        last = {row[0]: float(row[-1]) for row in rows if row[0] in CONVERGENT}
        page.claim(
            f"EGPO, Nash-MP and INPO with theorem 4's steps end within {NEAR} of the Nash policy of {named.title}",
            max(last.values()) <= NEAR,
        )


def _gaps(game: FiniteGame, algorithm: dict[str, Any]) -> list[str]:
    try:
        policies = exact_policies(game, algorithm, MARKS[-1])
    except ArithmeticError:
        return ["no minimiser"] * len(MARKS)
    return [f"{game.duality_gap(policies[mark]):.2e}" for mark in MARKS]
