"""The series of losses that every algorithm's shipped loss gives in 32 bits, from fixed starts: `golden_losses.json`.

`python -m tests.support.golden_losses` writes the file anew; only do so for a change that is meant to change numbers.
"""

import json
from pathlib import Path

import torch

from shared.inpo.plan import Parameters
from tests.support.games import a_random_game
from tests.support.sampled_training import SoftmaxRun

FILE = Path(__file__).parent / "golden_losses.json"
TAU, NUM_ITERATIONS, NUM_STEPS = 0.1, 3, 4
PARAMETERS = {
    "inpo": Parameters(eta=0.6, tau=TAU),
    "inpo_theorem4": Parameters(tau=TAU, schedule="theorem4"),
    "inpo_no_kl": Parameters(eta=0.6),
    "ipo": Parameters(tau=TAU),
    "online_ipo": Parameters(tau=TAU),
    "ipo_md": Parameters(tau=TAU, mixture=0.25),
    "nash_md": Parameters(eta=0.6, tau=TAU),
    "egpo": Parameters(eta=0.6, tau=TAU),
    "nash_mp": Parameters(tau=TAU),
    "onpo": Parameters(eta=0.6, tau=TAU),
    "mnpo": Parameters(eta=0.6, tau=TAU, weights=(2.0, 1.0)),
    "mnpo_mixture": Parameters(eta=0.6, tau=TAU, opponents="mixture"),
    "sppo": Parameters(eta=0.6),
    "dno": Parameters(eta=0.6),
    "iterative_dpo": Parameters(beta=0.8),
    "iterative_dpo_initial": Parameters(beta=0.8, reference="initial"),
}


def algorithm_of(case: str) -> str:
    """A case is an algorithm's name, or the name with a suffix."""
    return case.removesuffix("_theorem4").removesuffix("_mixture").removesuffix("_initial")


def series(case: str) -> list[float]:
    """Losses of three iterations with four gradient steps a half-step, from the game of seed 5."""
    run = SoftmaxRun(a_random_game(6, TAU, 5), algorithm_of(case), PARAMETERS[case], dtype=torch.float32)
    losses: list[float] = []
    for iterate, half in run.half_steps(NUM_ITERATIONS):
        found, run.log_policies[iterate] = run.descend(half, NUM_STEPS, learning_rate=0.3)
        losses += found
    return losses


if __name__ == "__main__":
    FILE.write_text(json.dumps({case: series(case) for case in PARAMETERS}, indent=1) + "\n", encoding="utf-8")
