"""Results and the page made of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from proof.__main__ import EXPERIMENTS, write
from proof.cases import Case, exact_policies, inpo
from proof.games import DEMO
from proof.page import Page, spread
from proof.results import CaseResult, Course, Iterate, Results

REFERENCE = (2, 1208, 614, 224)


def an_iterate(counts: tuple[int, ...]) -> Iterate:
    return Iterate(
        counts=counts,
        mean_response_tokens=9.0,
        kl=0.1,
        log_ratio_max=1.5,
        comparisons=1024,
        judging_s=0.1,
        metrics={"num_pairs": 900.0, "train_s": 2.0},
    )


def a_result(case: Case) -> CaseResult:
    """What a language model that followed the exact trajectory to the response would have measured."""
    played = case.game.around(np.array(REFERENCE), case.judge)
    policies = exact_policies(played, case.algorithm, case.iterations)[1:]
    counts = [REFERENCE, *(tuple(int(count) for count in np.rint(2048 * policy)) for policy in policies)]
    iterates = [an_iterate(found) for found in counts]
    return CaseResult(title=case.title, commit="abc", seconds=10.0, oracle_bytes=10**8, iterates=iterates)


def test_a_result_that_was_put_is_found_again_and_no_other(tmp_path: Path) -> None:
    results, case = Results(tmp_path), Case(DEMO, inpo(DEMO), iterations=2)
    assert not results.has(case)
    results.put(case, a_result(case))
    assert results.course(case).result == a_result(case)
    other = replace(case, seed=1)
    assert results.finished([other, case])[0].case == case
    with pytest.raises(KeyError, match="seed 1"):
        results.course(other)


def test_a_course_that_follows_the_exact_trajectory_is_near_it() -> None:
    """Counts of 2,048 responses are off by half a response, and smoothing adds two: far below 1e-3 in KL and gap."""
    case = Case(DEMO, inpo(DEMO))
    course = Course(case, a_result(case))
    assert course.kls_to_exact.max() < 1e-3
    assert course.gaps == pytest.approx(course.exact_gaps, abs=2e-3)
    assert course.kls_to_exact[0] == pytest.approx(0.0, abs=1e-12)


def test_the_mixture_is_of_distributions() -> None:
    """All plain and all poetic, evenly mixed, is half plain and half poetic: the gap of that policy."""
    case = Case(DEMO, inpo(DEMO), iterations=1)
    iterates = [an_iterate(counts) for counts in ((0, 2048, 0, 0), (0, 0, 2048, 0))]
    course = Course(case, a_result(case).model_copy(update={"iterates": iterates}))
    half = np.array([0.5, 1024.5, 1024.5, 0.5]) / 2050.0
    assert course.mixture_gap() == pytest.approx(course.game.duality_gap(half))
    assert course.mixture_gap(0) == pytest.approx(course.gaps[0])


def test_a_spread_shows_median_and_extremes() -> None:
    assert spread([0.3, 0.1, 0.2], 1) == "0.2 (0.1 – 0.3)"
    assert spread([0.25], 2) == "0.25"


def test_a_claim_says_whether_the_figures_bear_it_out(tmp_path: Path) -> None:
    page = Page(tmp_path / "proof.md", Results(tmp_path), [0])
    page.claim("two is more than one", held=True)
    page.claim("one is more than two", held=False)
    page.write()
    text = page.path.read_text()
    assert "* **held**: two is more than one" in text
    assert "* **NOT HELD**: one is more than two" in text
    assert [claim.held for claim in page.claims] == [True, False]


def test_without_results_every_section_says_that_it_was_not_run(tmp_path: Path) -> None:
    page = Page(tmp_path / "proof.md", Results(tmp_path / "results"), [0, 1])
    needing = {name: experiment for name, experiment in EXPERIMENTS.items() if experiment.cases([0])}
    write(page, needing)
    text = page.path.read_text()
    assert text.count("Not run.") == len(needing)
    assert all(f"## {experiment.TITLE}" in text for experiment in needing.values())


@pytest.mark.parametrize("name", [name for name, experiment in EXPERIMENTS.items() if experiment.cases([0])])
def test_a_section_is_written_from_its_results(tmp_path: Path, name: str) -> None:
    """Every run of the experiment as the exact trajectory would have it: tables are filled, plots are there."""
    page = Page(tmp_path / "proof.md", Results(tmp_path / "results"), [0, 1])
    for case in EXPERIMENTS[name].cases([0, 1]):
        page.results.put(case, a_result(case))
    write(page, {name: EXPERIMENTS[name]})
    text = page.path.read_text()
    assert "Not run." not in text
    assert "nan" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) >= 4, "a header, its rule, and two rows of figures"
    for line in text.splitlines():
        if line.startswith("!["):
            assert (tmp_path / line.partition("](")[2].rstrip(")")).stat().st_size > 5_000
