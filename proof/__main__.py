"""`make prove`: play every algorithm, exactly and with a language model, and write docs/proof.md from what came out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from proof.experiments import (
    best_steps,
    boundedness,
    cost,
    cycle,
    demo_game,
    mixture,
    noise,
    rewards,
    selection,
)
from proof.results import Results
from proof.running import run_cases
from services.cli.failures import reported
from services.cli.screen import screen

EXPERIMENTS = (demo_game, cycle, cost, mixture, selection, rewards, best_steps, boundedness, noise)


def prove(
    seeds: Annotated[str, typer.Option(help="Seeds of the repeated runs; the others take the first.")] = "0,1,2",
    jobs: Annotated[int, typer.Option(min=1, help="Systems side by side.")] = max(1, (os.cpu_count() or 1)),
    state_dir: Annotated[Path, typer.Option(help="Results and systems; the next call goes on there.")] = Path(
        ".inpo/prove"
    ),
) -> None:
    """Run what has no result yet."""
    with reported():
        chosen = [int(seed) for seed in seeds.split(",")]
        results = Results(state_dir / "results")
        todo = [case for experiment in EXPERIMENTS for case in experiment.cases(chosen)]
        run_cases(todo, results, state_dir, jobs, screen())


if __name__ == "__main__":
    typer.run(prove)
