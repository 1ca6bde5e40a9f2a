"""`make soak` for half a minute: every run ends by itself, in the same pairs, whatever happens meanwhile."""

from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.soak import soak, table

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(900)]


def test_runs_end_in_the_same_pairs_under_faults_of_every_kind(tmp_path: Path) -> None:
    outcome = soak(tmp_path, 30.0, seed=1, console=Console())
    Console().print(table(outcome))
    assert outcome.runs >= 3, "an undisturbed one, a disturbed one, and one afterwards"
    assert outcome.faults.total() > 0
