"""The stories example, as committed, through the real services on a real pretrained story model."""

from pathlib import Path

import pytest

from services.cli.client import Api
from services.cli.launcher.up import UpOptions, running_system
from services.cli.launcher.vllm import Engine, VllmOptions
from services.cli.specs.files import load_spec
from services.cli.views.watching import ENDED
from tests.support.data import ROOT, outside_data
from tests.support.vllm_server import require_vllm
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    "engine", ["transformers", pytest.param("vllm", marks=pytest.mark.xdist_group("vllm_stories"))]
)
def test_three_iterations_win_three_quarters_of_the_held_out_comparisons_without_running_away(
    tmp_path: Path, engine: Engine
) -> None:
    """The acceptance figures: a win rate of at least 0.75 against the reference policy at a KL of at most 10 nats.

    Samples before and after are part of the result, and nothing is flagged as reward hacking.
    """
    if engine == "vllm":
        require_vllm()
    # The same function with heads of 32, the narrowest that vLLM computes on a CPU.
    model = outside_data("tiny_model/stories260K-hf" + ("32" if engine == "vllm" else ""))
    spec = load_spec(ROOT / "examples" / "stories.yaml", [f"model.path={model}"])
    options = UpOptions(vllm=VllmOptions(model) if engine == "vllm" else None)
    with running_system(tmp_path, options) as system:
        api = Api(system.url)
        run = api.create_run(spec).id
        wait_until(lambda: api.run(run).state in ENDED, 800.0, f"run {run} to end")
        view, rows = api.run(run), api.iterations(run)
    assert view.state == "succeeded", view.reason
    assert [row.iteration for row in rows] == [0, 1, 2, 3]
    last = rows[3].evaluation
    assert last is not None
    assert last.win_rate is not None
    assert last.kl is not None
    assert last.win_rate.mean >= 0.75
    assert last.kl.mean <= 10.0
    assert last.warnings == []
    assert all(sample.reference and sample.response for sample in last.samples)
    first = rows[1].commit
    assert first is not None
    assert first.metrics["step_zero_loss"] == pytest.approx((1 / (2 * 0.1)) ** 2, rel=1e-4)
