"""`make prove`: play every algorithm, exactly and with a language model, and write docs/proof.md from what came out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

import typer

from proof.cases import Case
from proof.experiments import (
    best_steps,
    boundedness,
    cost,
    coverage,
    cycle,
    demo_game,
    exact,
    mixture,
    noise,
    rewards,
    selection,
)
from proof.page import Page
from proof.results import Results
from proof.running import run_cases
from services.cli.failures import UserError, reported
from services.cli.views.screen import screen
from shared.runtime.telemetry import configure_logging


class Experiment(Protocol):
    """A module of `proof.experiments`."""

    TITLE: str

    def cases(self, seeds: Sequence[int], /) -> list[Case]:
        """The runs that it needs."""
        ...

    def section(self, page: Page, /) -> None:
        """Its part of the page."""
        ...


EXPERIMENTS: dict[str, Experiment] = {
    "exact": exact,
    "demo_game": demo_game,
    "cycle": cycle,
    "best_steps": best_steps,
    "mixture": mixture,
    "selection": selection,
    "rewards": rewards,
    "cost": cost,
    "boundedness": boundedness,
    "noise": noise,
    "coverage": coverage,
}

WHOLE = Path("docs/proof.md")
INTRODUCTION = """# Proof

Every algorithm of the papers against games whose answer is known: exactly, and again with a language model that is
sampled, judged and trained by the real services. `make prove` writes this page; every number on it is computed from
that run, and a claim that its figures do not bear out says so. `make prove ARGS="--help"` has the options; it goes on
where it was stopped.
"""


def prove(
    seeds: Annotated[str, typer.Option(help="Of the repeated runs; everything else takes the first.")] = "0,1,2",
    only: Annotated[
        list[str] | None, typer.Option(metavar="EXPERIMENT", help=f"Repeat it: {', '.join(EXPERIMENTS)}.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Systems (Redis and four services) side by side.")] = os.cpu_count()
    or 1,
    state_dir: Annotated[
        Path, typer.Option(help="Results, and the systems' state; finished runs are never run again.")
    ] = Path(".inpo/prove"),
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page, its plots in a folder of the same name: docs/proof.md by default, and with --only proof.md "
            "in the state directory, so that a part never takes the place of the whole."
        ),
    ] = None,
    write_only: Annotated[
        bool, typer.Option("--write-only", help="Write the page from what is finished; run nothing.")
    ] = False,
) -> None:
    """Play every algorithm, exactly and with a language model through the services, and write the page about it.

    All of it is about 80 runs: an hour on two cores. Ctrl-C loses no finished run; the same command goes on. Ends with
    exit code 1 when a run failed or a claim of the page does not hold.
    """
    configure_logging("proof", "WARNING")
    with reported():
        chosen = _chosen(only)
        path = out or (state_dir / "proof.md" if only else WHOLE)
        page = Page(path, Results(state_dir / "results"), _numbers(seeds))
        if not write_only:
            todo = [case for experiment in chosen.values() for case in experiment.cases(page.seeds)]
            run_cases(todo, page.results, state_dir, jobs, screen())
            if coverage in chosen.values():
                coverage.measure(page.coverage, state_dir, screen())
        write(page, chosen)
        screen().print(f"Written: {path}", markup=False)
        broken = [claim.text for claim in page.claims if not claim.held]
        if broken:
            raise UserError("claims that the figures do not bear out:\n  " + "\n  ".join(broken))


def write(page: Page, experiments: dict[str, Experiment]) -> None:
    """The page, a section for each experiment."""
    page.lines += INTRODUCTION.splitlines()
    used = [page.courses(experiment.cases(page.seeds)) for experiment in experiments.values()]
    runs = {course.case.key: course.result for found in used for course in found}
    if runs:
        minutes = sum(result.seconds for result in runs.values()) / 60.0
        commits = ", ".join(sorted({result.commit for result in runs.values()}))
        page.text(f"{len(runs)} runs of {minutes:.0f} minutes in all, made by commit {commits}.")
    for experiment in experiments.values():
        page.heading(experiment.TITLE)
        cases = experiment.cases(page.seeds)
        if cases and not page.courses(cases):
            page.text("Not run.")
        else:
            experiment.section(page)
    page.write()


def _chosen(only: list[str] | None) -> dict[str, Experiment]:
    unknown = sorted(set(only or ()) - set(EXPERIMENTS))
    if unknown:
        raise UserError(f"--only {unknown[0]}: there are {', '.join(EXPERIMENTS)}")
    return {name: experiment for name, experiment in EXPERIMENTS.items() if not only or name in only}


def _numbers(seeds: str) -> list[int]:
    try:
        found = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise UserError(f"--seeds {seeds}: numbers separated by commas are needed, such as 0,1,2") from None
    if min(found) < 0 or len(set(found)) < len(found):
        raise UserError(f"--seeds {seeds}: each must be at least 0, and none may come twice")
    return found


if __name__ == "__main__":
    typer.run(prove)
