"""`make prove` in small: every algorithm with the demo's language model, through the real services, from one seed."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from proof.cases import Case, label
from proof.experiments import demo_game
from proof.results import Results
from proof.running import run_cases
from shared.inpo.games import kl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("proof")]

ITERATIONS = 2
CASES = [replace(case, iterations=ITERATIONS) for case in demo_game.cases([0])]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("prove")
    found = Results(folder / "results")
    run_cases(CASES, found, folder, 1, Console())
    return found


@pytest.mark.parametrize("case", CASES, ids=[label(case.algorithm) for case in CASES])
def test_a_language_model_follows_the_exact_trajectory(results: Results, case: Case) -> None:
    """It ends a tenth of the way that the exact policy has gone, or less, from it: both as KL from the exact policy.

    In the second iteration anchors, opponents and the policy to start from are no longer the reference. Iterative DPO
    with a moving reference is followed for one: in its second a quarter of the responses are invalid. From seed 0 the
    others measured .003 to .06 of the way; half or twice the step ends .16 to 1.3 of the way
    off, exactly, and staying all of it. Full runs: docs/proof.md.
    """
    course = results.course(case)
    last = 1 if case.algorithm == demo_game.MOVING_DPO else ITERATIONS
    gone = kl(course.exact[last], course.policies[0])
    assert course.kls_to_exact[last] < 0.1 * gone
    assert len(course.policies) == ITERATIONS + 1


def test_what_is_finished_is_not_run_again(results: Results, tmp_path: Path) -> None:
    """No system is started: nothing is made below the folder."""
    run_cases(CASES, results, tmp_path / "state", 2, Console())
    assert not (tmp_path / "state").exists()
