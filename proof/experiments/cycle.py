# matplotlib is only partly typed.
# pyright: reportUnknownMemberType=false
"""The symmetric cycle: who converges on it, who runs from vertex to vertex, and who drifts."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from proof.cases import Case, case_of, dpo, egpo, exact_policies, inpo, label
from proof.games import SYMMETRIC
from proof.page import Page, by_algorithm, spread
from proof.results import Course
from shared.inpo.games import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE: str = "The symmetric cycle: convergence, vertices, drift"
NEAR = 0.03
LATE = 5
ITERATIONS = 15
LONG = 60
ETA = 0.6
CONVERGENT: tuple[dict[str, Any], ...] = (
    inpo(SYMMETRIC, ETA),
    egpo(SYMMETRIC, 0.45),
    {"name": "nash_mp", "tau": SYMMETRIC.tau},
)
DIVERGENT = (dpo(0.8, "previous"), dpo(0.4, "initial"))
DRIFTING: tuple[dict[str, Any], ...] = ({"name": "inpo_no_kl", "eta": ETA}, {"name": "sppo", "eta": ETA})


def case(algorithm: dict[str, Any], seed: int) -> Case:
    """One algorithm on the symmetric cycle."""
    return case_of(SYMMETRIC, algorithm, ITERATIONS, seed)


def cases(seeds: Sequence[int]) -> list[Case]:
    """All of them from every seed."""
    return [case(algorithm, seed) for seed in seeds for algorithm in (*CONVERGENT, *DIVERGENT, *DRIFTING)]


def section(page: Page) -> None:
    """Gaps along the runs, the claims about them, and the runs in the triangle of the three styles."""
    runs = by_algorithm(page.courses(cases(page.seeds)))
    game = next(iter(runs.values()))[0].game
    page.text(
        f"{SYMMETRIC.title}, {ITERATIONS} iterations, otherwise as above; median (extremes) of seeds "
        f"{', '.join(map(str, page.seeds))}. A constant step of INPO is stable for eta above "
        f"{game.stability_threshold():.2f} here."
    )
    marks = (1, 3, 5, 10, ITERATIONS)
    header = ("algorithm", *(f"gap at {mark}" for mark in marks), f"exact gap at {ITERATIONS}", "KL to reference")
    page.table(header, [_row(name, found, marks) for name, found in runs.items()])
    _claims(page, runs)
    page.plot(
        "cycle",
        "The symmetric cycle, first seed. Left: duality gap. Middle: the language model's iterates among the valid "
        f"responses; star: Nash policy. Right: exact trajectories, {LONG} iterations",
        lambda axes: _draw(axes, runs, game.nash()),
        num_axes=3,
    )


def _row(name: str, found: list[Course], marks: Sequence[int]) -> list[str]:
    return [
        name,
        *(spread([course.gaps[mark] for course in found]) for mark in marks),
        spread([course.exact_gaps[-1] for course in found]),
        spread([course.result.iterates[-1].kl or 0.0 for course in found], 2),
    ]


def _claims(page: Page, runs: dict[str, list[Course]]) -> None:
    ends = {name: median(course.gaps[-1] for course in found) for name, found in runs.items()}
    convergent = [name for name in map(label, CONVERGENT) if name in ends]
    for name in convergent:
        page.claim(f"{name} ends at a duality gap of at most {NEAR}", ends[name] <= NEAR)
    late = {name: median(course.gaps[-LATE:].mean() for course in found) for name, found in runs.items()}
    for name in map(label, DIVERGENT):
        if name in ends and convergent:
            page.claim(
                f"{name} has ten times the worst of these gaps or more, at the end ({ends[name]:.3f} against "
                f"{max(ends[other] for other in convergent):.3f}) and in the mean of the last {LATE} iterations "
                f"({late[name]:.3f} against {max(late[other] for other in convergent):.3f})",
                all(of[name] >= 10 * max(of[other] for other in convergent) for of in (ends, late)),
            )
    for name in map(label, DRIFTING):
        for_all = runs.get(name, [])
        if for_all:
            page.claim(
                f"{name} drifts, as its exact trajectory does: from its smallest gap on the way the last one is more "
                "than three times as large",
                all(_drifts(course.gaps) and _drifts(course.exact_gaps) for course in for_all),
            )


def _drifts(gaps: Vector) -> bool:
    return bool(gaps[-1] > 3.0 * gaps.min())


def _draw(axes: "Sequence[Axes]", runs: dict[str, list[Course]], nash: Vector) -> None:
    for name, found in runs.items():
        axes[0].plot(found[0].gaps, label=name, marker=".", linewidth=1.0)
    axes[0].set(xlabel="iteration", ylabel="duality gap", yscale="log", ylim=(1e-3, 30.0))
    axes[0].legend(fontsize=6, ncols=2, loc="upper left")
    for axis in axes[1:]:
        axis.plot([0.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.87, 0.0], color="black", linewidth=0.8)
        for place, name in (((0.0, -0.05), "plain"), ((1.0, -0.05), "poetic"), ((0.5, 0.9), "pirate")):
            axis.annotate(name, place, ha="center")
        axis.set_axis_off()
    for algorithm in (*CONVERGENT[:2], *DIVERGENT):
        found = runs.get(label(algorithm), [])
        if found:
            _path(axes[1], np.array(found[0].policies), label(algorithm))
            _path(axes[2], exact_policies(found[0].game, algorithm, LONG), label(algorithm))
    for axis in axes[1:]:
        axis.plot(*_corner(nash[None])[0], marker="*", markersize=12, color="black")
        axis.set_xlim(-0.5, 1.05)
    axes[1].legend(fontsize=6, loc="upper left")


def _path(axis: "Axes", policies: Vector, name: str) -> None:
    points = _corner(policies)
    axis.plot(points[:, 0], points[:, 1], marker=".", linewidth=0.8, label=name)


def _corner(policies: Vector) -> Vector:
    """Places in the triangle of the three styles, among the valid responses: [N, 4] to [N, 2]."""
    shares = policies[:, 1:] / policies[:, 1:].sum(axis=1, keepdims=True)
    return shares @ np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.87]])
