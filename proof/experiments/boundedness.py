"""Assumption A, |log pi_t / ref| <= B: measured along runs, and driven up on purpose by readers without doubt."""

from collections.abc import Sequence

import numpy as np

from proof.cases import Case, inpo
from proof.experiments import cycle, demo_game
from proof.games import DEMO, Readers
from proof.page import Page, by_algorithm, spread
from proof.results import Course
from shared.inpo.games import FiniteGame, Vector, trajectory

TITLE: str = "B of Assumption A: measured, and driven up on purpose"
EXACT_TAUS = (0.15, 0.05, 0.015)
LONG = 1000

SURE = Readers(1.0, 1.0, 1.0, 1.0)
ETAS = (0.45, 0.15)


def cases(seeds: Sequence[int]) -> list[Case]:
    """INPO under readers who never disagree, with the demo's step and with the largest that INPO allows."""
    return [Case(DEMO, inpo(DEMO, eta), seed=seeds[0], judge=SURE, note="sure readers") for eta in ETAS]


def section(page: Page) -> None:
    """B by algorithm, under readers without doubt, and in the exact game as tau goes down."""
    page.text(
        "INPO's theorems assume |log pi_t(y) / ref(y)| <= B along the run. *responses*: the largest one of any sampled "
        "response of any iterate, in nats. *styles*: the largest of the log-ratios of the three styles' shares, which "
        "also sees what is no longer sampled (a style that is never sampled has half a response). Both are lower "
        "bounds of B: invalid responses are rare, and some are rarer than any sample shows."
    )
    everybody = page.courses([*demo_game.cases(page.seeds), *cycle.cases(page.seeds)])
    sure = page.courses(cases(page.seeds))
    groups = {
        f"{name}, {game} game": [course for course in found if course.case.game.name == game]
        for name, found in by_algorithm(everybody).items()
        for game in ("demo", "symmetric")
    }
    rows = [_row(name, found) for name, found in groups.items() if found]
    rows += [_row(f"{course.label}, readers without doubt", [course]) for course in sure]
    page.table(("run", "B of responses", "B of styles"), rows)
    if not everybody:
        return
    page.text(f"The exact demo game, {LONG} iterations at eta = tau + 1/2, with the demo's readers and surer ones:")
    page.table(("INPO, exact", *(f"tau {tau:g}" for tau in EXACT_TAUS)), _exact_rows(everybody[0].counts[0]))


def _row(name: str, found: list[Course]) -> list[str]:
    responses = [max(iterate.log_ratio_max for iterate in course.result.iterates) for course in found]
    return [name, spread(responses, 2), spread([_of_styles(course) for course in found], 2)]


def _of_styles(course: Course) -> float:
    ratios = np.log(np.array(course.policies)[:, 1:]) - np.log(course.policies[0][1:])
    return float(np.abs(ratios).max())


def _exact_rows(reference: Vector) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, readers in (("demo's readers", DEMO.readers), ("readers without doubt", SURE)):
        games = [DEMO.around(reference, readers, tau) for tau in EXACT_TAUS]
        rows.append([f"{name}: B of styles", *(f"{_exact_bound(game):.2f}" for game in games)])
    return rows


def _exact_bound(game: FiniteGame) -> float:
    policies = trajectory(game, "inpo", LONG)
    return float(np.abs(np.log(policies[:, 1:]) - np.log(game.reference[1:])).max())
