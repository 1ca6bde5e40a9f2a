"""The demo against a controller that answers from a list and a store that holds evaluations."""

import io
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from services.cli.demo.run import METHODS, Demo, demo_spec
from services.cli.failures import UserError
from services.oracle.rules.styles import answers, question
from shared.contracts.judges import RulesJudge
from shared.contracts.plans import EvaluationPlan, Shard
from shared.contracts.records import Message, Rollout
from shared.contracts.rest.runs import IterationList
from shared.contracts.spec import OracleSpec, SamplingSpec
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.artifacts.tables import create_table
from tests.support.cli_views import RUN, Answer, FakeController, a_run, a_version, an_iteration


def put_evaluation(store: DirectoryStore, number: int, counts: tuple[int, int, int]) -> None:
    """Responses about the sun, so many of each style, in two shards."""
    step = layout.evaluation(RUN, number)
    plan = EvaluationPlan(
        run=RUN,
        version=a_version(number),
        reference=a_version(0),
        sampling=SamplingSpec(),
        num_responses=sum(counts),
        prompt_format="chat",
        max_prompt_tokens=64,
        oracle=OracleSpec(judge=RulesJudge(entry_point="services.oracle.rules.styles:cyclic_panel")),
        shards=[Shard(index=0, prompts=[0]), Shard(index=1, prompts=[1])],
        seed=0,
    )
    create_model(store, layout.plan(step), plan)
    for shard in (0, 1):
        responses = [answers("sun", style)[shard] for style, count in enumerate(counts, 1) for _ in range(count)]
        rollout = Rollout(
            prompt_id=f"p{shard}",
            prompt=[Message(role="user", content=question("sun"))],
            prompt_ids=[1],
            responses=responses,
            response_ids=[[2]] * len(responses),
            log_probs=[[-0.5]] * len(responses),
            finish_reasons=["stop"] * len(responses),
            versions=[number] * len(responses),
            digests=["d"] * len(responses),
        )
        create_table(store, layout.rollouts(step, shard), Rollout, [rollout])


def a_demo(tmp_path: Path, views: list[Answer], iterations: list[Answer]) -> tuple[Demo, io.StringIO]:
    created = a_run(tmp_path)
    controller = FakeController(
        {"POST /v1/runs": [created], f"GET /v1/runs/{RUN}": views, f"GET /v1/runs/{RUN}/iterations": iterations}
    )
    text = io.StringIO()
    console = Console(file=text, width=300)
    return Demo(controller.api(), DirectoryStore(tmp_path / "store"), console, pause=lambda _: None), text


def test_rows_land_one_by_one_as_their_evaluations_do(tmp_path: Path) -> None:
    """A committed iteration is shown once it is measured, and a controller that is away is waited for."""
    running, ended = a_run(tmp_path), a_run(tmp_path, state="succeeded")
    first = IterationList(iterations=[an_iteration(0), an_iteration(1, measured=False)], skipped=[])
    both = IterationList(iterations=[an_iteration(0), an_iteration(1)], skipped=[])
    demo, text = a_demo(tmp_path, [running, httpx.ConnectError("away"), running, ended], [first, first, both])
    put_evaluation(DirectoryStore(tmp_path / "store"), 0, (60, 31, 9))
    put_evaluation(DirectoryStore(tmp_path / "store"), 1, (70, 15, 15))
    rows = demo.align("inpo", demo_spec("inpo", tmp_path, tmp_path / "p.jsonl", 0, 1))
    assert [row.iteration for row in rows] == [0, 1]
    assert rows[0].style_shares == pytest.approx([0.60, 0.31, 0.09])
    assert (rows[1].win_rate_vs_reference, rows[1].seconds) == (0.75, 7.25)
    lines = text.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines if line.startswith("INPO")] == ["INPO reference", "INPO 1"]


def test_a_run_that_fails_ends_the_demo_with_its_reason(tmp_path: Path) -> None:
    demo, _ = a_demo(
        tmp_path, [a_run(tmp_path, state="failed", reason="no memory")], [IterationList(iterations=[], skipped=[])]
    )
    with pytest.raises(UserError, match="failed: no memory"):
        demo.align("inpo", demo_spec("inpo", tmp_path, tmp_path / "p.jsonl", 0, 1))


def test_both_methods_have_the_same_budget_and_differ_in_the_algorithm_only(tmp_path: Path) -> None:
    ours, theirs = (demo_spec(method, tmp_path, tmp_path / "p.jsonl", 5, 10) for method in METHODS)
    same = {"algorithm", "name"}
    assert ours.model_dump(exclude=same) == theirs.model_dump(exclude=same)
    assert (ours.algorithm.name, ours.algorithm.eta, ours.algorithm.tau) == ("inpo", 0.45, 0.15)
    assert (theirs.algorithm.beta, theirs.algorithm.reference) == (0.8, "previous")
    pairs = ours.selection.num_pairs
    assert pairs is not None
    assert 16 * pairs == 1024
