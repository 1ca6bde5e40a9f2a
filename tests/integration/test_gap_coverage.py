"""The duality gap's interval, on responses that the engine sampled from language models whose exact gap is known."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from proof.gap_coverage import POLICIES, TAUS, GapCoverage, gap_coverage
from services.cli.demo.model import demo_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = ("reference policy", "near Nash")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[GapCoverage]:
    """Two policies of the demo's model at two taus: 100 trials of 128 responses to two of its questions."""
    folder = tmp_path_factory.mktemp("proof")
    policies = {name: POLICIES[name] for name in NAMES}
    return gap_coverage(demo_model(folder / "model"), folder / "store", policies=policies, num_questions=2)


def test_the_interval_covers_the_exact_gap_in_nine_of_ten_trials(measured: list[GapCoverage]) -> None:
    """An interval that covers in 95 % of all trials has 90 of 100 with a chance of 98.9 %, in 97 % with 99.97 %.

    On two questions 97 to 98 % are expected, as the wider of two variances is taken. One that covers in 80 % passes
    once in 180 times. The trials are seeded.
    """
    assert [(one.policy, one.tau) for one in measured] == [(name, tau) for name in NAMES for tau in TAUS]
    assert all(one.trials == 100 and one.covered >= 90 for one in measured), measured


def test_the_exact_gap_is_far_better_known_than_an_estimate(measured: list[GapCoverage]) -> None:
    """Its two standard errors are below a twentieth of the interval's half-width."""
    for one in measured:
        assert one.mean_width is not None
        assert 2.0 * one.exact_gap_error < one.mean_width / 40.0


def test_the_estimates_scatter_around_the_exact_gap(measured: list[GapCoverage]) -> None:
    """Their mean is within 4 of its standard errors, one being at most width / (2 · 1.96 · sqrt(100))."""
    for one in measured:
        assert one.mean_estimate is not None
        assert one.mean_width is not None
        assert abs(one.mean_estimate - one.exact_gap) < 4.0 * one.mean_width / (3.92 * math.sqrt(one.trials))


def test_the_result_is_json_without_nan(measured: list[GapCoverage], tmp_path: Path) -> None:
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps([asdict(one) for one in measured], allow_nan=False))
    for one, again in zip(measured, json.loads(path.read_text()), strict=True):
        rows = again["rows"]
        assert len(rows) == one.trials
        assert sum(row["covered"] for row in rows) == one.covered
        assert sum(row["interval"] is None for row in rows) == one.refused
