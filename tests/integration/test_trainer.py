# torch's stubs and safetensors' functions leave a few results partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The trainer end to end on tiny real models: from stored pairs to published weights, whatever happens on the way."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.checkpoints.workspace import Workspace
from services.trainer.errors import NoPairsError, TrainingDivergedError, WrongPolicyError
from services.trainer.forward.log_probs import Compute
from services.trainer.optimisation.half_step import Iteration, train
from services.trainer.optimisation.pairs import read_pairs
from services.trainer.weights.models import Policies
from services.trainer.worker import TrainHandler
from shared.contracts.metrics import METRICS
from shared.contracts.plans import BasePlan
from shared.contracts.records import PublishedWeights, ReferenceScores
from shared.contracts.spec import ModelSpec, TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model, read_model
from shared.store.weights import manifests
from tests.support import tiny_models
from tests.support.data import outside_data
from tests.support.tiny_training import (
    ATTEMPT,
    SETTINGS,
    a_handler,
    a_pair,
    make_pairs,
    put_evaluation,
    put_half_step,
    read_plan,
)

COMPUTE = Compute(torch.device("cpu"))


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.make_model(tmp_path / "model", seed=1)


@pytest.fixture
def base(store: DirectoryStore, model: Path) -> WeightVersion:
    return tiny_models.publish(store, "run", 0, model)


def published(store: DirectoryStore, item: WorkItem) -> PublishedWeights:
    return read_model(store, layout.published(item.step), PublishedWeights)


def tensors_of(store: DirectoryStore, version: WeightVersion) -> dict[str, torch.Tensor]:
    return load_file(store.path(version.directory) / "model.safetensors")


def test_a_run_is_imported_trained_twice_and_scored_by_one_process(store: DirectoryStore, model: Path) -> None:
    """The way of a run through the trainer.

    At iteration 1 the anchor is pi_t itself, so h = 0 and the loss is (1 / (2 eta))^2 with eta = 0.5: 1. At iteration
    2 the anchor ref^(1/3) pi_t^(2/3) gives h = (D_pi_t - D_ref) / 3 before the first step, no longer 0.
    """
    handler = a_handler(store)
    import_item = WorkItem(kind="train", run="run", step=layout.base("run"))
    create_model(store, layout.plan(import_item.step), BasePlan(run="run", model=ModelSpec(path=str(model))))
    handler(import_item, ATTEMPT)
    v0 = published(store, import_item).version

    first = put_half_step(store, v0, make_pairs(model, 8, seed=1), anchors=[(v0, 1.0)])
    handler(first, ATTEMPT)
    v1 = published(store, first)
    assert v1.version.number == 1
    assert v1.metrics["step_zero_loss"] == pytest.approx(1.0, rel=1e-4)
    assert v1.metrics["step_zero_max_diff"] < 1e-5
    assert v1.metrics["witness_mean_diff"] < 1e-5
    assert v1.metrics["loss"] < v1.metrics["step_zero_loss"]
    assert (v1.metrics["num_pairs"], v1.metrics["num_steps"]) == (8.0, 4.0)
    manifest = manifests.verify(store.path(v1.version.directory), v1.version)
    assert manifest.parent == v0.digest

    pairs = make_pairs(store.path(v1.version.directory), 8, seed=2, version=1)
    second = put_half_step(store, v1.version, pairs, iteration=2, anchors=[(v0, 1 / 3), (v1.version, 2 / 3)])
    handler(second, ATTEMPT)
    v2 = published(store, second)
    assert v2.metrics["step_zero_loss"] != pytest.approx(1.0, rel=1e-4)
    assert v2.version.number == 2
    assert store.list(layout.scratch("run")) == []

    assert {*v1.metrics, *v2.metrics} <= set(METRICS)
    assert v2.metrics["log_ratio_abs_mean"] > 0.0

    _check_scores(handler, store, v2.version, v1.version, v0)


def _check_scores(
    handler: Any, store: DirectoryStore, version: WeightVersion, previous: WeightVersion, reference: WeightVersion
) -> None:
    """Scores are log pi_t - log pi_ref, and log pi_t - log pi_{t-1}, of whole responses, in rollout order."""
    item, expected = put_evaluation(store, version, reference, previous=previous)
    assert handler(item, ATTEMPT) == {"responses": 4, "adopted": False}
    assert handler(item, ATTEMPT) == {"responses": 4, "adopted": True}
    scores = read_model(store, layout.scores(item.step), ReferenceScores)
    assert scores.log_ratios == pytest.approx(expected.log_ratios, abs=1e-4)
    assert scores.previous_log_ratios == pytest.approx(expected.previous_log_ratios, abs=1e-4)
    assert expected.previous_log_ratios != pytest.approx(expected.log_ratios, abs=1e-4)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_live_model_is_the_published_version_bit_for_bit(store: DirectoryStore, tmp_path: Path, tied: bool) -> None:
    """A trainer that goes on and one that starts cold at iteration 2 publish equal weights."""
    model = tiny_models.make_model(tmp_path / "model-2", seed=2, tied=tied)
    base = tiny_models.publish(store, "run", 0, model)
    warm = a_handler(store)
    first = put_half_step(store, base, make_pairs(model, 6, seed=1))
    warm(first, ATTEMPT)
    v1 = published(store, first).version
    second = put_half_step(store, v1, make_pairs(store.path(v1.directory), 6, seed=2, version=1), iteration=2)
    warm(second, ATTEMPT)
    once = published(store, second)
    store.path(layout.published(second.step)).unlink()
    a_handler(store)(second, ATTEMPT)
    again = published(store, second)
    assert again.version.digest == once.version.digest
    assert {**again.metrics, "train_s": 0} == {**once.metrics, "train_s": 0}


def test_a_result_that_exists_is_adopted_without_work(store: DirectoryStore, model: Path, base: WeightVersion) -> None:
    item = put_half_step(store, base, make_pairs(model, 4, seed=1))
    a_handler(store)(item, ATTEMPT)
    before = store.list(layout.weights("run"))
    summary = a_handler(store)(item, ATTEMPT)
    assert summary["adopted"] is True
    assert store.list(layout.weights("run")) == before


class OvertakenStore(DirectoryStore):
    """Another trainer publishes the step at the last moment before this one would."""

    def __init__(self, root: Path, key: str, rival: Callable[[], object]) -> None:
        super().__init__(root)
        self._key = key
        self._rival = [rival]

    def create(self, key: str, data: bytes) -> bool:
        if key == self._key and self._rival:
            self._rival.pop()()
        return super().create(key, data)


def test_two_trainers_of_the_same_step_end_with_one_winner(
    store: DirectoryStore, model: Path, base: WeightVersion
) -> None:
    item = put_half_step(store, base, make_pairs(model, 6, seed=1))
    winner_handler = a_handler(store)
    overtaken = OvertakenStore(store.root, layout.published(item.step), lambda: winner_handler(item, ATTEMPT))
    summary = a_handler(overtaken)(item, ATTEMPT)
    winner = published(store, item).version
    assert (summary["weights"], summary["adopted"]) == (str(winner), True)
    assert store.list(layout.weights("run")) == ["0000-1", winner.directory.rsplit("/", 1)[1]]
    manifests.verify(store.path(winner.directory), winner)


class DyingWorkspace(Workspace):
    """The process is killed right after its n-th checkpoint."""

    def __init__(self, folder: Path, work: str, num: int) -> None:
        super().__init__(folder, work)
        self.left = num

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        super().save(step, state, metrics)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_resumed_training_ends_in_bit_identical_weights(
    store: DirectoryStore, model: Path, base: WeightVersion
) -> None:
    """10 steps, a checkpoint every 3: killed after step 3, again after step 6 of the second try, then left alone."""
    training = TrainingSpec(
        learning_rate=1e-3, batch_size=4, micro_batch_size=2, num_epochs=5, checkpoint_every_steps=3, weight_decay=0.1
    )
    item = put_half_step(store, base, make_pairs(model, 8, seed=1), training=training)
    plan = read_plan(store, item)
    pairs = read_pairs(store, item.step, plan)

    def attempt(workspace: Workspace) -> tuple[torch.nn.Module, dict[str, float]]:
        trained = train(Iteration(plan, pairs, Policies(store, COMPUTE.device), workspace, COMPUTE))
        policy, metrics = trained.policy, trained.metrics
        assert policy is not None
        return policy, metrics

    straight, metrics = attempt(Workspace(store.path("scratch/straight"), "work"))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            attempt(DyingWorkspace(store.path("scratch/broken"), "work", 1))
    resumed, metrics_again = attempt(Workspace(store.path("scratch/broken"), "work"))
    assert metrics["num_steps"] == 10
    assert metrics_again == metrics
    state = resumed.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in straight.state_dict().items())


def test_pairs_sampled_by_weights_with_one_more_weight_perturbed_are_refused(
    store: DirectoryStore, model: Path, base: WeightVersion, tmp_path: Path
) -> None:
    """The sampler served other weights than the plan says: only its log-probs tell, and they do."""
    other = tiny_models.perturb(model, tmp_path / "other", seed=3, scale=0.05)
    item = put_half_step(store, base, make_pairs(other, 8, seed=1))
    with pytest.raises(WrongPolicyError, match=r"nats a token on average, training\.witness_tolerance is 0\.001"):
        a_handler(store)(item, ATTEMPT)
    assert not store.exists(layout.published(item.step))


def test_a_start_that_differs_from_pi_t_by_one_weight_is_refused(
    store: DirectoryStore, model: Path, base: WeightVersion
) -> None:
    """The version on disk is right, but the model in hand has one weight too large: the step-0 assertion says so."""
    item = put_half_step(store, base, make_pairs(model, 8, seed=1))
    plan = read_plan(store, item)
    pairs = read_pairs(store, item.step, plan)
    workspace = Workspace(store.path("scratch/w"), "work")

    class PerturbedPolicies(Policies):
        def take(self, version: WeightVersion) -> torch.nn.Module:
            model = super().take(version)
            with torch.no_grad():
                dict(model.named_parameters())["model.norm.weight"][0] += 0.5
            return model

    with pytest.raises(WrongPolicyError, match="the policy to train is not") as failure:
        train(Iteration(plan, pairs, PerturbedPolicies(store, COMPUTE.device), workspace, COMPUTE))
    assert "training.step_zero_tolerance is 0.001" in str(failure.value)


def test_a_file_perturbed_on_disk_is_refused(store: DirectoryStore, model: Path, base: WeightVersion) -> None:
    item = put_half_step(store, base, make_pairs(model, 4, seed=1))
    file = store.path(base.directory) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(manifests.WeightsError, match="another sha256"):
        a_handler(store)(item, ATTEMPT)


def test_a_diverging_training_publishes_nothing(store: DirectoryStore, model: Path, base: WeightVersion) -> None:
    """With eta = 1e-30 the target is 5e29, whose square is beyond float32."""
    item = put_half_step(store, base, make_pairs(model, 4, seed=1), scale=1e-30)
    with pytest.raises(TrainingDivergedError, match=r"training\.learning_rate"):
        a_handler(store)(item, ATTEMPT)
    assert store.list(layout.weights("run")) == ["0000-1"]


def test_a_failed_training_leaves_the_next_try_a_clean_start(
    store: DirectoryStore, model: Path, base: WeightVersion
) -> None:
    """The process trained v1, fails at iteration 2, and tries again: the step-0 assertion holds as before."""
    handler = a_handler(store)
    first = put_half_step(store, base, make_pairs(model, 4, seed=1))
    handler(first, ATTEMPT)
    v1 = published(store, first).version
    pairs = make_pairs(store.path(v1.directory), 4, seed=2, version=1)
    broken = put_half_step(store, v1, pairs, iteration=2, scale=1e-30)
    with pytest.raises(TrainingDivergedError):
        handler(broken, ATTEMPT)
    sound = put_half_step(store, v1, pairs, iteration=3)
    handler(sound, ATTEMPT)
    assert published(store, sound).metrics["step_zero_max_diff"] < 1e-5


def test_without_pairs_the_item_fails_with_the_reasons(store: DirectoryStore, base: WeightVersion) -> None:
    item = put_half_step(store, base, [])
    with pytest.raises(NoPairsError, match="the oracle derived none"):
        a_handler(store)(item, ATTEMPT)


def test_margins_reach_the_target_on_pairs_that_can_be_memorised(
    store: DirectoryStore, model: Path, base: WeightVersion
) -> None:
    """The minimiser of (h - 1 / (2 eta))^2 on separate pairs has h = 1 / (2 eta) on each: 4 nats for eta = 1/8.

    The anchor is pi_t, so h is the change of D; winners gain on losers by exactly that.
    """
    pairs = [a_pair(model, f"p{i}", [1, 50 + i], [100 + i, 2], [150 + i, 2]) for i in range(6)]
    training = TrainingSpec(
        learning_rate=3e-3, batch_size=6, micro_batch_size=6, num_epochs=100, warmup_fraction=0.1, max_grad_norm=10.0
    )
    item = put_half_step(store, base, pairs, scale=1 / 8, training=training)
    a_handler(store)(item, ATTEMPT)
    metrics = published(store, item).metrics
    assert metrics["target_mean"] == 4.0
    assert metrics["margin_mean"] == pytest.approx(4.0, abs=0.05)
    assert metrics["loss"] < 0.01
    shift = metrics["chosen_log_prob_shift"] - metrics["rejected_log_prob_shift"]
    assert shift == pytest.approx(metrics["margin_mean"], abs=1e-4)


def test_the_papers_eta_gives_the_papers_loss_at_step_0(
    store: DirectoryStore, model: Path, base: WeightVersion
) -> None:
    """With eta = 0.0075 and h = 0: (1 / 0.015)^2 = 4444.4, to a relative 1e-4 in float32."""
    item = put_half_step(store, base, make_pairs(model, 6, seed=1), scale=0.0075)
    a_handler(store)(item, ATTEMPT)
    assert published(store, item).metrics["step_zero_loss"] == pytest.approx((1 / 0.015) ** 2, rel=1e-4)


def test_a_real_story_model_is_imported_and_trained(store: DirectoryStore) -> None:
    """A pretrained model of 260,032 parameters without a chat template."""
    source = outside_data("tiny_model/stories260K-hf")
    handler = a_handler(store)
    item = WorkItem(kind="train", run="run", step=layout.base("run"))
    create_model(store, layout.plan(item.step), BasePlan(run="run", model=ModelSpec(path=str(source))))
    handler(item, ATTEMPT)
    v0 = published(store, item).version
    assert manifests.read_manifest(store.path(v0.directory)).num_parameters == 260_032
    training = TrainingSpec(learning_rate=1e-6, batch_size=4, num_epochs=2)
    first = put_half_step(store, v0, make_pairs(source, 8, seed=1), training=training)
    handler(first, ATTEMPT)
    metrics = published(store, first).metrics
    assert metrics["step_zero_loss"] == pytest.approx(1.0, rel=1e-4)
    assert metrics["loss"] < 1.0


def test_the_logistic_loss_starts_at_log_2(store: DirectoryStore, model: Path, base: WeightVersion) -> None:
    """DPO against the previous iterate: margin 0, -log sigma(0) = log 2."""
    item = put_half_step(store, base, make_pairs(model, 6, seed=1), loss="logistic", scale=0.8)
    a_handler(store)(item, ATTEMPT)
    metrics = published(store, item).metrics
    assert metrics["step_zero_loss"] == pytest.approx(math.log(2), rel=1e-4)
    assert metrics["margin_mean"] > 0.0
    assert "target_mean" not in metrics


def test_gradient_checkpointing_changes_no_figure(store: DirectoryStore, model: Path, base: WeightVersion) -> None:
    """Activations that are computed again are the same: equal weights, to the last bit."""
    item = put_half_step(store, base, make_pairs(model, 6, seed=1))
    a_handler(store)(item, ATTEMPT)
    kept = published(store, item)
    store.path(layout.published(item.step)).unlink()
    TrainHandler(store, SETTINGS.model_copy(update={"trainer_gradient_checkpointing": True}))(item, ATTEMPT)
    recomputed = published(store, item)
    assert recomputed.version.directory != kept.version.directory
    assert recomputed.version.digest == kept.version.digest
