# matplotlib is only partly typed.
# pyright: reportUnknownMemberType=false
"""The fair comparison: iterative DPO with the best beta of a grid beside INPO and EGPO with the best eta of theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from proof.cases import Case, case_of, dpo, egpo, inpo
from proof.games import DEMO, SYMMETRIC
from proof.page import Page
from proof.results import Course
from services.cli.demo.run import NUM_ITERATIONS
from shared.inpo.games import FiniteGame, Vector, trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE: str = "The fair comparison: everybody's best step"
# algorithm, the name of its step, further parameters
EXACT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "INPO": ("inpo", "eta", {}),
    "EGPO": ("egpo", "eta", {}),
    "iterative DPO, fixed reference": ("iterative_dpo", "beta", {"reference": "fixed"}),
    "iterative DPO, moving reference": ("iterative_dpo", "beta", {"reference": "moving"}),
}
LEAST_GAP = 1e-16
STEPS = np.geomspace(0.1, 10.0, 81)
HORIZONS = (NUM_ITERATIONS, 100)

GRIDS: dict[str, tuple[dict[str, Any], ...]] = {
    "INPO": tuple(inpo(DEMO, eta) for eta in (0.3, 0.45, 0.65, 1.0)),
    "EGPO": tuple(egpo(DEMO, eta) for eta in (0.45, 0.65, 1.0)),
    "iterative DPO, fixed reference": tuple(dpo(beta, "initial") for beta in (0.4, 0.6, 0.8, 1.0, 2.0)),
    "iterative DPO, moving reference": tuple(dpo(beta, "previous") for beta in (0.8, 2.0, 4.0)),
}


def cases(seeds: Sequence[int]) -> list[Case]:
    """Every entry of every grid, from the first seed."""
    return [case_of(DEMO, algorithm, seed=seeds[0]) for grid in GRIDS.values() for algorithm in grid]


def section(page: Page) -> None:
    """The best of an exact grid in both games, then the sampled grid."""
    seed = page.seeds[0]
    courses = {name: page.courses([case_of(DEMO, item, seed=seed) for item in grid]) for name, grid in GRIDS.items()}
    known = [course for found in courses.values() for course in found]
    page.text(
        f"**Exact**: the step among {len(STEPS)} from {STEPS[0]:g} to {STEPS[-1]:g} (at least tau for INPO and EGPO) "
        "that has the smallest duality gap after so many iterations, for each number of iterations anew."
    )
    reference = known[0].counts[0]
    grids = {game: [_grid(game.around(reference), name) for name in EXACT] for game in (DEMO, SYMMETRIC)}
    for game, found in grids.items():
        header = (game.title, *(f"best step for {count} · gap" for count in HORIZONS))
        page.table(header, [(grid.name, *_best(grid)) for grid in found])
    page.text(
        f"**Language model**, the demo's game, {NUM_ITERATIONS} iterations, seed {seed}: the gap is what "
        "remains, the mean of the last three takes sampling noise off it."
    )
    rows = [_row(course) for found in courses.values() for course in found]
    page.table(("algorithm", "gap", "mean of the last three", "exact gap", "invalid"), rows)
    best = {name: min(found, key=_late) for name, found in courses.items() if found}
    page.text(
        "Best of each grid by the mean of the last three: "
        + "; ".join(f"{name} {_late(course):.4f} ({course.label})" for name, course in best.items())
        + "."
    )
    page.plot(
        "best-steps",
        "The demo's game by step. Lines: exact trajectories. Dots: the language model, mean of its last three gaps",
        lambda axes: _draw(axes, courses, grids[DEMO]),
        num_axes=len(HORIZONS),
    )


def _draw(axes: "Sequence[Axes]", courses: dict[str, list[Course]], grids: "list[_Grid]") -> None:
    """Lines: the exact grid. Dots: the language model's."""
    for number, (axis, count) in enumerate(zip(axes, HORIZONS, strict=True)):
        for grid in grids:
            axis.plot(grid.steps, grid.gaps[:, number], label=grid.name)
        axis.set(
            xlabel="eta or beta", ylabel=f"duality gap after {count}", xscale="log", yscale="log", ylim=(1e-7, 3.0)
        )
    axes[0].set_prop_cycle(None)
    for name, found in courses.items():
        steps = [course.case.algorithm[EXACT[name][1]] for course in found]
        axes[0].plot(steps, [_late(course) for course in found], "o", markersize=5)
    axes[0].legend(fontsize=6)


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """`gaps[i, j]`: duality gap at step i after `HORIZONS[j]` iterations."""

    name: str
    steps: Vector
    gaps: Vector


def _grid(game: FiniteGame, name: str) -> _Grid:
    algorithm, step, more = EXACT[name]
    steps = STEPS[game.tau <= STEPS] if step == "eta" else STEPS
    gaps: list[list[float]] = []
    for value in steps:
        parameters: dict[str, Any] = {step: float(value)} | more
        policies = trajectory(game, algorithm, max(HORIZONS), **parameters)
        gaps.append([max(LEAST_GAP, game.duality_gap(policies[count])) for count in HORIZONS])
    return _Grid(name, steps, np.array(gaps))


def _late(course: Course) -> float:
    return float(course.gaps[-3:].mean())


def _row(course: Course) -> list[str]:
    invalid = course.counts[-1][0] / course.counts[-1].sum()
    return [
        course.label,
        f"{course.gaps[-1]:.4f}",
        f"{_late(course):.4f}",
        f"{course.exact_gaps[-1]:.1e}",
        f"{invalid:.3f}",
    ]


def _best(grid: _Grid) -> list[str]:
    best = grid.gaps.argmin(axis=0)
    step = EXACT[grid.name][1]
    return [f"{step} {grid.steps[row]:.2f} · {grid.gaps[row, column]:.1e}" for column, row in enumerate(best)]
