"""The duality gap through the real services: asked for at creation, measured for every version, shown with its cost."""

from pathlib import Path

import httpx
import pytest

from services.cli.client import Api
from services.cli.launcher.up import running_system
from tests.support.specs import a_spec_body
from tests.support.stub_system import RULE, ended_run, stub_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_a_run_that_asks_for_the_gap_shows_one_of_every_version(tmp_path: Path) -> None:
    """Eight responses are too few for an estimate: every version says so, or has one, and counts what it asked.

    The creation is answered with advice: eta .3 at tau .1 is below the hardest cycle's threshold of .557, and the gap
    is asked for of a tournament.
    """
    body = a_spec_body(
        tmp_path,
        oracle=RULE,
        evaluation={"num_prompts": 4, "num_responses": 8, "duality_gap": {}},
        iterations=2,
    )
    with running_system(tmp_path / "state", stub_system(5.0)) as system:
        created = httpx.post(f"{system.url}/v1/runs", json=body, trust_env=False)
        assert created.status_code == 201, created.text
        assert [warning["field"] for warning in created.json()["warnings"]] == ["algorithm.eta", "selection.method"]
        view = ended_run(system, created.json()["id"])
        assert view["state"] == "succeeded", view["reason"]
        rows = Api(system.url).iterations(view["id"])
    assert [row.iteration for row in rows] == [0, 1, 2]
    for row in rows:
        assert row.evaluation is not None
        gap = row.evaluation.duality_gap
        assert gap is not None
        assert gap.tau == 0.1
        assert (gap.estimate is None) == (gap.refusal is not None)
        assert gap.num_comparisons > 0
        if row.commit is not None:
            assert row.evaluation.kl_to_previous is not None or row.iteration == 2
            assert "identical_pair_share" in row.commit.metrics
