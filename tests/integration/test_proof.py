"""`make prove` in small: every algorithm with the demo's language model, through the real services, from one seed."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from proof.cases import Case, label
from proof.experiments import demo_game
from proof.results import Results
from proof.running import run_cases

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
    """Two iterations: in the second, anchors, opponents and the policy to start from are no longer the reference.

    1,024 binary answers and 2,048 measured responses an iteration leave KL(exact || measured) of about .002 (full
    runs: docs/proof.md); an algorithm that did nothing would be .02 or more away.
    """
    course = results.course(case)
    assert course.kls_to_exact[1:].max() < 0.015
    assert len(course.gaps) == ITERATIONS + 1


def test_what_is_finished_is_not_run_again(results: Results, tmp_path: Path) -> None:
    """No system is started: nothing is made below the folder."""
    run_cases(CASES, results, tmp_path / "state", 2, Console())
    assert not (tmp_path / "state").exists()
