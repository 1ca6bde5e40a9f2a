"""An iteration of two half-steps by hand, in one process: what is due, what it starts from, what it leaves behind."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from services.controller.reconciling.actions import perform
from services.controller.reconciling.observer import Observer
from services.controller.reconciling.reconciler import Action, Commit, PlanHalfStep, Submit, next_actions
from services.controller.runs.repository import RunRepository
from services.oracle.judge import build_judge
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.worker import JudgeHandler
from services.policy.drawing.hf_tokenizer import HfTokenizer
from services.policy.engines.transformers.engine import TransformersEngine
from services.policy.settings import PolicySettings
from services.policy.swapping.gate import Gate
from services.policy.worker import GenerateHandler
from services.trainer.settings import TrainerSettings
from services.trainer.worker import TrainHandler
from shared.contracts import records
from shared.contracts.plans import HalfStepPlan
from shared.contracts.records import PublishedWeights, Rollout
from shared.contracts.work import Attempt, Event, Kind, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, read_model
from shared.store.artifacts.tables import read_table
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.specs import a_spec
from tests.support.tiny_models import make_model

ETA = 0.6


class ByHand:
    """A run of one iteration over two prompts; nothing happens between two calls."""

    def __init__(self, tmp_path: Path, algorithm: str) -> None:
        make_model(tmp_path / "model", seed=1)
        self.store = DirectoryStore(tmp_path / "store")
        self.queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
        self.engine = TransformersEngine(PolicySettings(num_threads=1))
        gate = Gate(self.engine, lambda version: self.store.path(version.directory))
        judges = JudgeRegistry(partial(build_judge, device="cpu", entry_points=["tests.support."]))
        self.handlers: dict[Kind, Callable[[WorkItem, Attempt], object]] = {
            "generate": GenerateHandler(self.store, gate, HfTokenizer),
            "judge": JudgeHandler(self.store, judges),
            "train": TrainHandler(self.store, TrainerSettings(trainer_num_threads=1)),
        }
        self.spec = a_spec(
            tmp_path,
            prompts={"sets": [{"path": str(tmp_path / "prompts.jsonl")}], "num_per_iteration": 2},
            algorithm={"name": algorithm, "eta": ETA, "tau": 0.1},
            training={"learning_rate": 1e-3, "batch_size": 2, "micro_batch_size": 2},
            evaluation={"num_prompts": 0},
            iterations=1,
        )
        self.record = RunRepository(self.store).create(self.spec)
        self.run = self.record.id

    def due(self) -> list[Action]:
        outstanding = frozenset(self.queue.outstanding(self.run))
        return next_actions(self.spec, Observer(self.store).observe(self.run, self.spec, outstanding))

    def reconcile(self) -> list[Action]:
        actions = self.due()
        for action in actions:
            perform(self.store, self.queue, self.record, action)
        return actions

    def work(self, *kinds: Kind) -> None:
        """Reconcile, then work on one item, which must be of this kind; for each kind."""
        for kind in kinds:
            self.reconcile()
            claim = self.queue.claim(["generate", "judge", "train"], wait_s=0.0)
            assert claim is not None
            assert claim.item.kind == kind
            self.handlers[kind](claim.item, Attempt(number=1))
            self.queue.complete(claim, Event(type="item_done", run=self.run))

    def plan(self, half: int) -> HalfStepPlan:
        return read_model(self.store, layout.plan(self.step(half)), HalfStepPlan)

    def published(self, half: int) -> PublishedWeights:
        return read_model(self.store, layout.published(self.step(half)), PublishedWeights)

    def step(self, half: int) -> str:
        return layout.half_step(self.run, 1, half)


def test_an_iteration_of_two_games(tmp_path: Path) -> None:
    """EGPO: against pi_0, then against what that made, both times from pi_0.

    At step 0 of both, theta and all anchors are pi_0: the margin is 0 and the loss (1 / (2 eta))^2, although the pairs
    of half-step 2 come from another policy.
    """
    hand = ByHand(tmp_path, "egpo")
    hand.reconcile()
    hand.work("train")
    assert hand.reconcile() == [PlanHalfStep(1, 1)]
    hand.work("generate", "judge", "train")
    middle = hand.published(1).version
    assert (middle.number, middle.half) == (1, 1)

    assert hand.reconcile() == [PlanHalfStep(1, 2)]
    first, second = hand.plan(1), hand.plan(2)
    assert second.sample_from == middle
    assert (second.start_from, second.anchors) == (first.start_from, first.anchors)
    hand.work("generate")
    assert hand.engine.live_version() == middle
    rollouts = read_table(hand.store, layout.rollouts(hand.step(2), 0), Rollout)
    assert {digest for rollout in rollouts for digest in rollout.digests} == {middle.digest}
    hand.work("judge", "train")
    for half in (1, 2):
        assert hand.published(half).metrics["step_zero_loss"] == pytest.approx((1 / (2 * ETA)) ** 2, rel=1e-4)

    assert hand.reconcile() == [Commit(1)]
    commit = read_model(hand.store, layout.commit(hand.run, 1), records.Commit)
    assert commit.weights == hand.published(2).version
    assert commit.weights.digest != middle.digest
    assert {layout.plan(hand.step(half)) for half in (1, 2)} <= commit.digests.keys()


def test_an_iteration_of_two_passes(tmp_path: Path) -> None:
    """ONPO: once the first pass has its weights, the second one is trained on the same pairs, from those weights."""
    hand = ByHand(tmp_path, "onpo")
    hand.reconcile()
    hand.work("train")
    hand.reconcile()
    hand.work("generate", "judge", "train")
    assert hand.reconcile() == [PlanHalfStep(1, 2)]
    assert hand.due() == [Submit(WorkItem(kind="train", run=hand.run, step=hand.step(2)))]
    assert hand.plan(2).start_from == hand.published(1).version
    hand.work("train")
    assert hand.published(2).metrics["num_pairs"] == hand.published(1).metrics["num_pairs"]
    assert hand.reconcile() == [Commit(1)]
