"""The executable twin of docs/reading-order.md: one prompt's way from the REST call to new weights, in one process.

Everything is real but Redis, whose twin in memory lets us look between the hops: a tiny Llama generates, a rule judges,
AdamW trains, and the engine swaps.
"""

import re
from collections.abc import Callable
from functools import partial, reduce
from importlib import import_module
from pathlib import Path

import pytest

from services.controller.reconciling.actions import perform
from services.controller.reconciling.observer import Observer
from services.controller.reconciling.reconciler import Commit, PlanHalfStep, Submit, next_actions
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
from shared.contracts.records import PreferencePair, PublishedWeights, Rollout
from shared.contracts.work import Attempt, Event, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, read_model
from shared.store.artifacts.tables import read_table
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.data import ROOT
from tests.support.specs import a_spec
from tests.support.tiny_models import make_model

FIRST = Attempt(number=1)


def test_a_prompt_walks_nine_hops_to_new_weights(tmp_path: Path) -> None:
    make_model(tmp_path / "model", seed=1)
    store = DirectoryStore(tmp_path / "store")
    queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
    engine = TransformersEngine(PolicySettings(num_threads=1))
    gate = Gate(engine, lambda version: store.path(version.directory))
    generate = GenerateHandler(store, gate, HfTokenizer)
    judge = JudgeHandler(store, JudgeRegistry(partial(build_judge, device="cpu", entry_points=["tests.support."])))
    train = TrainHandler(store, TrainerSettings(trainer_num_threads=1))

    # 1. The spec becomes a run: run.json and its prompts.
    spec = a_spec(
        tmp_path,
        prompts={"sets": [{"path": str(tmp_path / "prompts.jsonl")}], "num_per_iteration": 2},
        training={"learning_rate": 1e-3, "batch_size": 2, "micro_batch_size": 2},
        evaluation={"num_prompts": 0},
        iterations=2,
    )
    record = RunRepository(store).create(spec)
    run, step = record.id, layout.half_step(record.id, 1, 1)

    # 2. The reconciler sees what is missing.
    def due() -> list[object]:
        return list(next_actions(spec, Observer(store).observe(run, spec, frozenset(queue.outstanding(run)))))

    def reconcile() -> None:
        for action in next_actions(spec, Observer(store).observe(run, spec, frozenset(queue.outstanding(run)))):
            perform(store, queue, record, action)

    def work(handler: Callable[[WorkItem, Attempt], object]) -> None:
        claim = queue.claim(["generate", "judge", "train"], wait_s=0.0)
        assert claim is not None
        handler(claim.item, FIRST)
        queue.complete(claim, _done(run))

    reconcile()
    reconcile()
    work(train)
    base = read_model(store, layout.published(layout.base(run)), PublishedWeights).version
    assert due() == [PlanHalfStep(1, 1)]

    # 3. plan.json: sample from and start at version 0, anchored to it.
    reconcile()
    plan = read_model(store, layout.plan(step), HalfStepPlan)
    assert plan.sample_from == plan.start_from == plan.reference == base
    assert [anchor.exponent for anchor in plan.anchors] == [1.0]

    # 4. A work item names step and shard, and carries nothing.
    assert due() == [Submit(WorkItem(kind="generate", run=run, step=step, shard=0))]
    reconcile()

    # 5. Rollouts: K responses a prompt with token ids and log-probs, all from version 0.
    work(generate)
    rollouts = read_table(store, layout.rollouts(step, 0), Rollout)
    assert [len(rollout.responses) for rollout in rollouts] == [4, 4]
    assert {digest for rollout in rollouts for digest in rollout.digests} == {base.digest}
    assert engine.live_version() == base

    # 6. Verdicts, and the pairs that follow from them, on the very tokens that were sampled.
    reconcile()
    work(judge)
    pairs = read_table(store, layout.pairs(step, 0), PreferencePair)
    assert pairs
    sampled = {tuple(ids) for rollout in rollouts for ids in rollout.response_ids}
    assert all({tuple(pair.chosen_ids), tuple(pair.rejected_ids)} <= sampled for pair in pairs)

    # 7. Training: at step 0 the loss is (1 / (2 eta))^2, because theta, pi_t and the reference are one policy.
    reconcile()
    work(train)
    trained = read_model(store, layout.published(step), PublishedWeights)
    assert trained.metrics["step_zero_loss"] == pytest.approx((1 / (2 * 0.3)) ** 2, rel=1e-4)
    assert trained.version.digest != base.digest

    # 8. The commit proves it, once.
    assert due() == [Commit(1)]
    reconcile()
    commit = read_model(store, layout.commit(run, 1), records.Commit)
    assert (commit.weights, commit.num_pairs) == (trained.version, len(pairs))

    # 9. The next plan's items name version 1, and so the engine swaps, verified by canary.
    reconcile()
    reconcile()
    work(generate)
    assert engine.live_version() == trained.version
    second = read_table(store, layout.rollouts(layout.half_step(run, 2, 1), 0), Rollout)
    assert {digest for rollout in second for digest in rollout.digests} == {trained.version.digest}


def test_every_hop_of_the_reading_order_is_a_function_that_exists() -> None:
    text = (ROOT / "docs" / "reading-order.md").read_text()
    hops = re.findall(r"^\| (\d) \| `([\w.]+):([\w.]+)` \|", text, flags=re.MULTILINE)
    assert [number for number, _, _ in hops] == [str(number) for number in range(1, 10)]
    for _, module, name in hops:
        assert callable(reduce(getattr, name.split("."), import_module(module))), f"{module}:{name}"


def _done(run: str) -> Event:
    return Event(type="item_done", run=run)
