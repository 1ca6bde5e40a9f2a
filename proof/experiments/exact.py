"""Every algorithm in exact games: its own plan, each loss replaced by its exact minimiser."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from proof.cases import Case
from proof.page import Page
from services.cli.game_sources import PRESETS, Choice
from shared.inpo.games import FiniteGame, trajectory

TITLE: str = "Exact games × every algorithm"
GAMES = ("biased", "rock-paper-scissors", "weak-kl", "random")
ALGORITHMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("inpo", {}),
    ("inpo", {"eta": "theorem4"}),
    ("inpo_no_kl", {}),
    ("onpo", {}),
    ("egpo", {}),
    ("nash_mp", {}),
    ("nash_md", {}),
    ("ipo", {}),
    ("online_ipo", {}),
    ("ipo_md", {}),
    ("mnpo", {}),
    ("sppo", {}),
    ("dno", {}),
    ("iterative_dpo", {"reference": "moving"}),
    ("iterative_dpo", {"reference": "fixed"}),
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
        rows = [(_title(algorithm, given), *_gaps(game, algorithm, given)) for algorithm, given in ALGORITHMS]
        page.table(("algorithm", *(f"gap at {mark}" for mark in MARKS)), rows)
        last = {row[0]: float(row[-1]) for row in rows if row[0] in CONVERGENT}
        page.claim(
            f"EGPO, Nash-MP and INPO with theorem 4's steps end within {NEAR} of the Nash policy of {named.title}",
            max(last.values()) <= NEAR,
        )


def _title(algorithm: str, given: dict[str, Any]) -> str:
    return " ".join([algorithm, *(f"{name}={value}" for name, value in given.items())])


def _gaps(game: FiniteGame, algorithm: str, given: dict[str, Any]) -> list[str]:
    try:
        policies = trajectory(game, algorithm, MARKS[-1], **given)
    except ArithmeticError:
        return ["no minimiser"] * len(MARKS)
    return [f"{max(0.0, float(np.float64(game.duality_gap(policies[mark])))):.2e}" for mark in MARKS]
