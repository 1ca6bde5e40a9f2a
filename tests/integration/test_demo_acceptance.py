"""The demo, whole, through the real services: INPO reaches the Nash policy, iterative DPO does not."""

import json
from pathlib import Path

import pytest

from services.cli.demo.run import run_demo
from services.cli.launcher.vllm import Engine
from tests.support.vllm_server import require_vllm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("engine", "iterations", "gap", "kl"),
    [
        ("transformers", 10, 0.01, 0.02),
        pytest.param("vllm", 5, 0.03, 0.04, marks=pytest.mark.xdist_group("vllm_demo")),
    ],
)
def test_inpo_closes_the_duality_gap_and_iterative_dpo_on_the_same_budget_does_not(
    tmp_path: Path, engine: Engine, iterations: int, gap: float, kl: float
) -> None:
    """The acceptance figures of one seed: gap from at least 0.10 to at most 0.01, KL to Nash at most 0.02.

    Through vLLM half of the iterations, to a gap of at most .03: three seeds of the other engine were at .006 to .019
    then. At most 5 % of the responses are invalid, and iterative DPO ends with at least ten times INPO's gap. Row 0 is
    the reference policy, and both methods start from the same one.
    """
    if engine == "vllm":
        require_vllm()
    written = run_demo(state_dir=tmp_path / "state", out_dir=tmp_path, seed=0, iterations=iterations, engine=engine)
    report = json.loads(written.read_text())
    inpo, dpo = (report["runs"][method]["iterations"] for method in ("inpo", "iterative_dpo"))
    assert [row["iteration"] for row in inpo] == [row["iteration"] for row in dpo] == list(range(iterations + 1))
    assert inpo[0]["duality_gap"] >= 0.10
    assert dpo[0]["duality_gap"] == pytest.approx(inpo[0]["duality_gap"], abs=0.02)
    assert inpo[-1]["duality_gap"] <= gap
    assert inpo[-1]["kl_to_nash"] <= kl
    assert max(row["invalid_share"] for row in inpo) <= 0.05
    assert dpo[-1]["duality_gap"] >= 10 * inpo[-1]["duality_gap"]
    assert (tmp_path / "demo-report.png").stat().st_size > 10_000
