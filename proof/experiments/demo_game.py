# matplotlib is only partly typed.
# pyright: reportUnknownMemberType=false
"""Every algorithm in the demo's game, through the services, beside its own exact trajectory."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from proof.cases import Case, case_of, dpo, egpo, inpo, label
from proof.games import DEMO
from proof.page import Page, by_algorithm, spread
from proof.results import Course
from services.cli.demo.run import BETA, ETA, NUM_ITERATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE: str = "The demo's language model × every algorithm, through the services"
NEAR = 0.01
NUM_COLOURS = 10

TAU = DEMO.tau

CONVERGENT: tuple[dict[str, Any], ...] = (inpo(DEMO), egpo(DEMO, ETA), {"name": "nash_mp", "tau": TAU})
MOVING_DPO = dpo(BETA, "previous")
OTHERS: tuple[dict[str, Any], ...] = (
    {"name": "inpo", "tau": TAU, "schedule": "theorem4"},
    {"name": "inpo_no_kl", "eta": ETA},
    {"name": "onpo", "eta": ETA, "tau": TAU},
    {"name": "nash_md", "eta": ETA, "tau": TAU},
    {"name": "ipo", "tau": TAU},
    {"name": "online_ipo", "tau": TAU},
    {"name": "ipo_md", "tau": TAU},
    {"name": "mnpo", "eta": ETA, "tau": TAU},
    {"name": "sppo", "eta": ETA},
    {"name": "dno", "eta": ETA},
    dpo(BETA, "initial"),
)


def cases(seeds: Sequence[int]) -> list[Case]:
    """The convergent ones and iterative DPO from every seed, the others from the first."""
    repeated = [case_of(DEMO, algorithm, seed=seed) for seed in seeds for algorithm in (*CONVERGENT, MOVING_DPO)]
    return repeated + [case_of(DEMO, algorithm, seed=seeds[0]) for algorithm in OTHERS]


def section(page: Page) -> None:
    """Final gaps of all, every iterate of the convergent ones, and a plot."""
    runs = by_algorithm(page.courses(cases(page.seeds)))
    page.text(
        f"{DEMO.title}; {NUM_ITERATIONS} iterations of 1,024 comparisons with binary "
        "answers, measured on 2,048 responses of each version. *exact* is the same algorithm's exact trajectory, from "
        "the measured reference policy; KL to exact is KL(exact iterate || measured iterate), largest of any iterate; "
        "invalid is the worst iterate's share: a squared loss fixes ratios, not levels, and now and then one iteration "
        "displaces likelihood that the next one brings back. "
        "Median (extremes) where there are several seeds. Two half-steps ask, sample and train twice an iteration."
    )
    header = ("algorithm", "seeds", "gap", "exact gap", "KL to Nash", "KL to exact", "invalid", "s an iteration")
    page.table(header, [_row(name, found) for name, found in runs.items()])
    _iterates(page)
    _claims(page, runs)
    page.plot("demo-game", "Duality gap of the language model in the demo's game", lambda axes: _draw(axes, runs), 2)


def _row(name: str, found: list[Course]) -> list[str]:
    return [
        name,
        str(len(found)),
        spread([course.gaps[-1] for course in found]),
        spread([course.exact_gaps[-1] for course in found]),
        spread([course.kls[-1] for course in found]),
        spread([course.kls_to_exact.max() for course in found]),
        spread([max(counts[0] / counts.sum() for counts in course.counts) for course in found], 3),
        spread([course.result.seconds / course.case.iterations for course in found], 1),
    ]


def _iterates(page: Page) -> None:
    """How each iterate of the convergent algorithms lies to the exact trajectory's policy."""
    page.text("Every iterate of the convergent ones, all seeds: duality gap · KL to the exact trajectory's policy.")
    wanted = [case_of(DEMO, algorithm, seed=seed) for algorithm in CONVERGENT for seed in page.seeds]
    runs = by_algorithm(page.courses(wanted))
    rows = [
        [str(number), *(_iterate(found, number) for found in runs.values())] for number in range(NUM_ITERATIONS + 1)
    ]
    page.table(("iteration", *runs), rows)


def _iterate(found: list[Course], number: int) -> str:
    gaps = spread([course.gaps[number] for course in found])
    return f"{gaps} · {spread([course.kls_to_exact[number] for course in found])}"


def _claims(page: Page, runs: dict[str, list[Course]]) -> None:
    for algorithm in CONVERGENT:
        gaps = [course.gaps[-1] for course in runs.get(label(algorithm), [])]
        if gaps:
            page.claim(
                f"{label(algorithm)} ends at a duality gap of at most {NEAR} (median over seeds)", median(gaps) <= NEAR
            )
    ours, theirs = ([c.gaps[-1] for c in runs.get(label(algorithm), [])] for algorithm in (CONVERGENT[0], MOVING_DPO))
    if ours and theirs:
        page.claim(
            "iterative DPO with a moving reference ends at ten times INPO's gap or more",
            median(theirs) >= 10 * median(ours),
        )


def _draw(axes: "Sequence[Axes]", runs: dict[str, list[Course]]) -> None:
    """Left those that close in, right those that do not; medians over the seeds."""
    for number, (name, found) in enumerate(runs.items()):
        gaps = np.median([course.gaps for course in found], axis=0)
        axis = axes[int(gaps[-1] > 0.5 * gaps[0])]
        axis.plot(gaps, label=name, marker=".", linewidth=1.0, linestyle="-" if number < NUM_COLOURS else "--")
    for axis in axes:
        axis.set(xlabel="iteration", ylabel="duality gap", yscale="log", ylim=(3e-4, 10.0))
        axis.legend(fontsize=6, ncols=2, loc="upper left")
