"""Every kind of sampling policy and half-step with real models, through the real services."""

from collections.abc import Generator
from typing import Any

import httpx
import pytest

from services.cli.demo.model import demo_model
from services.cli.launcher.up import RunningSystem, UpOptions, running_system
from shared.contracts.plans import HalfStepPlan
from shared.contracts.records import Commit, PublishedWeights, Rollout, Verdict
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, read_model
from shared.store.artifacts.tables import read_table
from shared.store.weights.manifests import read_manifest, verify
from tests.support.stub_system import ended_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("half_steps")]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningSystem]:
    with running_system(tmp_path_factory.mktemp("system"), UpOptions()) as running:
        yield running


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo's game over its own model, in small: 16 prompts, 4 responses, 2 iterations."""
    built = demo_model(tmp_path_factory.mktemp("demo"))
    return {
        "name": "halves",
        "model": {"path": str(built.directory)},
        "prompts": {"sets": [{"path": str(built.prompts)}], "num_per_iteration": 12},
        "sampling": {"num_responses": 4, "max_new_tokens": 16},
        "oracle": {
            "judge": {"kind": "rules", "entry_point": "services.oracle.rules.styles:cyclic_panel"},
            "answers": "probability",
        },
        "selection": {"method": "random_pairs"},
        "training": {"learning_rate": 2e-4, "batch_size": 8, "micro_batch_size": 8},
        "evaluation": {"prompts": {"path": str(built.prompts)}, "num_prompts": 2},
        "iterations": 2,
        "shard_size": 6,
        "seed": 3,
    }


def finished(system: RunningSystem, body: dict[str, Any], **changes: Any) -> tuple[DirectoryStore, str]:
    response = httpx.post(f"{system.url}/v1/runs", json=body | changes, trust_env=False)
    assert response.status_code == 201, response.text
    run = response.json()["id"]
    view = ended_run(system, run, 600.0)
    assert view["state"] == "succeeded", view["reason"]
    return DirectoryStore(system.store_dir), run


def plan_of(store: DirectoryStore, run: str, iteration: int, half: int) -> HalfStepPlan:
    return read_model(store, layout.plan(layout.half_step(run, iteration, half)), HalfStepPlan)


def metrics_of(store: DirectoryStore, run: str, iteration: int, half: int = 1) -> dict[str, float]:
    return read_model(store, layout.published(layout.half_step(run, iteration, half)), PublishedWeights).metrics


def rollouts_of(store: DirectoryStore, run: str, iteration: int, half: int = 1) -> list[Rollout]:
    step = layout.half_step(run, iteration, half)
    return [r for shard in (0, 1) for r in read_table(store, layout.rollouts(step, shard), Rollout)]


def test_egpo_plays_against_its_half_step(system: RunningSystem, body: dict[str, Any]) -> None:
    """Iteration 2: half-step 2's rollouts come from pi_{1+1/2}, swapped in by the engine, and train pi_1 anew.

    Both witnesses hold in every half-step: theta is pi_1 while the sampler was pi_{1+1/2}.
    """
    store, run = finished(system, body, algorithm={"name": "egpo", "eta": 0.6, "tau": 0.1})
    second = plan_of(store, run, 2, 2)
    assert (second.sample_from.number, second.sample_from.half) == (2, 1)
    assert (second.start_from.number, second.start_from.half) == (1, None)
    assert {digest for r in rollouts_of(store, run, 2, 2) for digest in r.digests} == {second.sample_from.digest}
    verify(store.path(second.sample_from.directory), second.sample_from)
    commit = read_model(store, layout.commit(run, 2), Commit)
    assert read_manifest(store.path(commit.weights.directory)).parent == second.start_from.digest
    assert commit.weights.half is None
    for iteration, half in ((1, 1), (1, 2), (2, 1), (2, 2)):
        metrics = metrics_of(store, run, iteration, half)
        assert metrics["step_zero_max_diff"] < 1e-3
        assert metrics["witness_mean_diff"] < 1e-3
    progress = httpx.get(f"{system.url}/v1/runs/{run}", trust_env=False).json()["progress"]
    assert progress["num_halves"] == 2
    weights = httpx.get(f"{system.url}/v1/weights", trust_env=False).json()["weights"]
    assert [view["version"]["half"] for view in weights if view["version"]["run"] == run] == [None] * 3


def test_onpo_goes_twice_over_the_same_pairs(system: RunningSystem, body: dict[str, Any]) -> None:
    """The second pass has no rollouts of its own, starts at the first one's result, and sees as many pairs."""
    store, run = finished(system, body, algorithm={"name": "onpo", "eta": 0.6, "tau": 0.1})
    first, second = plan_of(store, run, 2, 1), plan_of(store, run, 2, 2)
    assert (first.start_from.number, first.start_from.half) == (1, 1)
    assert (second.start_from.number, second.start_from.half) == (2, 1)
    assert store.list(f"{layout.half_step(run, 2, 2)}/rollouts") == []
    assert metrics_of(store, run, 2, 1)["num_pairs"] == metrics_of(store, run, 2, 2)["num_pairs"] > 0


@pytest.mark.parametrize("method", ["token", "sequence"])
def test_ipo_md_samples_between_reference_and_policy(system: RunningSystem, body: dict[str, Any], method: str) -> None:
    """Iteration 2 mixes pi_1 with ref; what is stored are pi_1's log-probs, as the trainer's witness confirms."""
    sampling = body["sampling"] | {"geometric": {"method": method, "num_proposals": 32, "min_effective_samples": 4}}
    store, run = finished(system, body, algorithm={"name": "ipo_md", "tau": 0.1}, sampling=sampling)
    assert {version for r in rollouts_of(store, run, 2) for version in r.versions} == {1}
    assert metrics_of(store, run, 2)["witness_mean_diff"] < 1e-3
    commit = read_model(store, layout.commit(run, 2), Commit)
    if method == "sequence":
        assert 4 <= commit.metrics["effective_sample_size_min"] <= commit.metrics["effective_sample_size_mean"] <= 32
    else:
        assert "effective_sample_size_min" not in commit.metrics


def test_mnpo_against_a_mixture_of_its_iterates_under_a_panel(system: RunningSystem, body: dict[str, Any]) -> None:
    """Each response names its version, and the sampler's witness holds response by response.

    The panel is three parts of readers who prefer plain answers to poetic ones at .95, and one part at .55; on
    everything else they agree. Only pairs of these two styles have a probability of .85 or .15.
    """
    algorithm = {"name": "mnpo", "eta": 0.6, "tau": 0.1, "opponents": "mixture"}
    rule = body["oracle"]["judge"]
    panel = [
        {"judge": rule | {"params": {"first_over_second": 0.95}}, "weight": 3},
        {"judge": rule | {"params": {"first_over_second": 0.55}}, "weight": 1},
    ]
    oracle = {"judge": {"kind": "panel", "members": panel}, "answers": "probability"}
    store, run = finished(system, body, algorithm=algorithm, oracle=oracle)
    step = layout.half_step(run, 2, 1)
    verdicts = [v for shard in (0, 1) for v in read_table(store, layout.judgments(step, shard), Verdict)]
    found = {round(verdict.probability, 9) for verdict in verdicts if verdict.probability is not None}
    assert found <= {0.5, 0.85, 0.15, 0.9, 0.1, 0.8, 0.2, 0.95, 0.05}
    assert found & {0.85, 0.15}
    assert {verdict.judge.split("(")[0] for verdict in verdicts} == {"panel"}
    numbers = [version for r in rollouts_of(store, run, 2) for version in r.versions]
    assert set(numbers) == {0, 1}
    assert metrics_of(store, run, 2)["witness_mean_diff"] < 1e-3


@pytest.mark.parametrize("name", ["sppo", "dno"])
def test_win_rates_reach_the_loss(system: RunningSystem, body: dict[str, Any], name: str) -> None:
    """All pairs are judged; the target of a pair is the difference of its responses' win rates over eta, above 0."""
    store, run = finished(
        system, body, algorithm={"name": name, "eta": 1.0}, selection={"method": "all_pairs"}, iterations=1
    )
    metrics = metrics_of(store, run, 1)
    assert metrics["target_mean"] > 0.0
    assert metrics["loss"] < metrics["step_zero_loss"]
