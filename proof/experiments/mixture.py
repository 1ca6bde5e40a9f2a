"""Constant steps: the last iterate against the uniform mixture, whose version is drawn for each response."""

import math
from collections.abc import Sequence

import numpy as np

from proof.cases import Case, inpo
from proof.experiments.cycle import ITERATIONS
from proof.games import SYMMETRIC
from proof.page import Page, spread
from shared.inpo.games import FiniteGame, trajectory

TITLE: str = "A constant step: last iterate against the uniform mixture, with tau and without"
LONG = (15, 100, 1000)

# Barely above the stability threshold: the last iterate circles inwards slowly.
ETA = 0.3


def cases(seeds: Sequence[int]) -> list[Case]:
    """INPO on the symmetric cycle with too large a step, from every seed."""
    return [Case(SYMMETRIC, inpo(SYMMETRIC, ETA), ITERATIONS, seed) for seed in seeds]


def section(page: Page) -> None:
    """Both on the language model, then both in the exact game, with the step of each theorem."""
    courses = page.courses(cases(page.seeds))
    game = courses[0].game
    page.text(
        f"INPO at eta {ETA} on the symmetric cycle, where a constant step is stable above "
        f"{game.stability_threshold():.2f}: the last iterate circles, and closes in slowly. The mixture draws the "
        "version, 0 to t, anew for each response: its shares are the mean of the versions' shares. Median (extremes) "
        "of the seeds."
    )
    marks = (5, 10, ITERATIONS)
    last = ("last iterate", *(spread([course.gaps[mark] for course in courses]) for mark in marks))
    mixed = ("uniform mixture", *(spread([course.mixture_gap(mark) for course in courses]) for mark in marks))
    page.table(("language model", *(f"gap at {mark}" for mark in marks)), [last, mixed])
    page.text("The same game exactly; without tau the gap is that of the unregularised game.")
    page.table(("exact", *(f"gap at {mark}" for mark in LONG)), _exact(game))
    page.claim(
        f"after {ITERATIONS} iterations the language model's mixture is nearer to the Nash policy than its last",
        all(course.mixture_gap() < course.gaps[-1] for course in courses),
    )


def _exact(game: FiniteGame) -> list[list[str]]:
    free = FiniteGame(game.preference, game.reference, 0.0)
    largest = float(np.log(1.0 / game.reference).max())
    theorem3 = [max(game.tau, math.sqrt(count / (2.0 * largest))) for count in LONG]
    hedge = [math.sqrt(count / (8.0 * largest)) for count in LONG]
    rows: list[list[str]] = []
    for name, played, etas in (
        (f"tau {game.tau:g}, eta {ETA}", game, [ETA] * len(LONG)),
        (f"tau {game.tau:g}, eta for T by theorem 3", game, theorem3),
        ("no tau, eta 0.6", free, [0.6] * len(LONG)),
        ("no tau, eta for T: Hedge", free, hedge),
    ):
        ends = [_ends(played, eta, count) for eta, count in zip(etas, LONG, strict=True)]
        rows.append([f"{name}: last iterate", *(f"{gap:.4f}" for gap, _ in ends)])
        rows.append([f"{name}: mixture", *(f"{gap:.4f}" for _, gap in ends)])
    return rows


def _ends(game: FiniteGame, eta: float, num_iterations: int) -> tuple[float, float]:
    policies = trajectory(game, "inpo", num_iterations, eta=eta)
    return game.duality_gap(policies[-1]), game.duality_gap(policies.mean(axis=0))
