"""A whole run in one thread, on the twins of store and queue, under a seeded schedule of faults.

The reconciler, the actions and the worker loop are the real ones; the handlers are small pure functions of what is
stored. A schedule is a function of its seed alone, so a failing seed replays.
"""

import hashlib
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.controller.reconciling.actions import perform
from services.controller.reconciling.observer import Observer
from services.controller.reconciling.reconciler import next_actions
from services.controller.runs.repository import RunRepository
from shared.contracts.plans import PLAN, EvaluationPlan, HalfStepPlan
from shared.contracts.records import (
    Message,
    PreferencePair,
    Prompt,
    PublishedWeights,
    ReferenceScores,
    Rollout,
    Verdict,
)
from shared.contracts.rest.runs import RunRecord
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion, label
from shared.contracts.work import Attempt, Kind, WorkItem
from shared.inpo.seeds import seed_of
from shared.runtime.worker.loop import Limits, Worker
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import create_model
from shared.store.artifacts.tables import create_table, encode, read_table
from shared.store.queue.memory_queue import MemoryQueue
from tests.support.specs import a_spec

LEASE_S = 3.0
MAX_STEPS = 5_000
NEVER = threading.Event()


class Killed(BaseException):
    """The worker's process is gone: nothing after this point happens."""


class Simulation:
    """One run. `faults` is the number of steps during which things go wrong; afterwards all is well."""

    def __init__(self, spec: RunSpec, seed: int, faults: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.faults = faults
        self.store = MemoryStore()
        self.queue = MemoryQueue(lambda: self.now, LEASE_S, consumer="controller")
        self.record = _create(self.store, spec)
        self.observer = Observer(self.store)
        self.lost_leases: dict[str, int] = {}
        self.handled: list[str] = []

    def run(self) -> None:
        """To the end of the run; AssertionError when it does not come."""
        repository = RunRepository(self.store)
        for step in range(MAX_STEPS):
            if repository.ended(self.record):
                return
            self.faulty = step < self.faults
            self._one_step()
        raise AssertionError(f"not finished after {MAX_STEPS} steps: {repository.view(self.record)}")

    def pairs(self) -> dict[str, bytes]:
        """Key and bytes of every pairs artifact."""
        return {key: data for key, data in self.store.objects.items() if "/pairs/" in key}

    def _one_step(self) -> None:
        self.now += self.rng.choice([0.0, 0.0, 0.1, 1.0])
        actors: list[Callable[[], None]] = [self._reconcile, *(lambda k=kind: self._work(k) for kind in KINDS)]
        if self.faulty and self.rng.random() < 0.02:
            actors = [self.queue.lose_everything]
        self.rng.choice(actors)()

    def _reconcile(self) -> None:
        run, spec = self.record.id, self.record.spec
        outstanding = frozenset(self.queue.outstanding(run))
        observed = self.observer.observe(run, spec, outstanding)
        assert observed == Observer(self.store).observe(run, spec, outstanding), "a memory saw something else"
        actions = next_actions(spec, observed)
        # A controller that dies has done some of what was due, once or twice, and the next one remembers nothing.
        survive = self.rng.randint(0, len(actions)) if self.faulty and self.rng.random() < 0.3 else len(actions)
        if survive < len(actions):
            self.observer = Observer(self.store)
        for action in actions[:survive]:
            for _ in range(2 if self.faulty and self.rng.random() < 0.1 else 1):
                perform(self.store, self.queue, self.record, action)

    def _work(self, kind: Kind) -> None:
        consumer = self.queue.as_consumer(f"{kind}-{self.rng.random()}")
        claim = consumer.claim([kind], wait_s=0.0)
        if claim is None:
            return
        worker = Worker(consumer, self.store, [kind], self._handle, Limits(LEASE_S, 1e6))
        try:
            worker.work(claim, NEVER)
        except Killed:
            return

    def _handle(self, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        self._maybe_die(item)
        if self._hit(item, 0.1):
            # The lease runs out while this worker goes on: somebody else does the same work, and finishes first.
            self.now += LEASE_S
            self._work(item.kind)
        HANDLERS[item.kind](self.store, item)
        self.handled.append(item.id)
        self._maybe_die(item)
        return {}

    def _maybe_die(self, item: WorkItem) -> None:
        if self._hit(item, 0.15):
            raise Killed

    def _hit(self, item: WorkItem, probability: float) -> bool:
        """Two lost leases an item at most: the third would be its own fault, and rightly end as a dead letter."""
        hit = self.faulty and self.lost_leases.get(item.id, 0) < 2 and self.rng.random() < probability
        if hit:
            self.lost_leases[item.id] = self.lost_leases.get(item.id, 0) + 1
        return hit


ONE_HALF_STEP = {"name": "inpo", "eta": 0.3, "tau": 0.1}
TWO_HALF_STEPS = {"name": "egpo", "eta": 0.6, "tau": 0.1}
TWO_PASSES = {"name": "onpo", "eta": 0.6, "tau": 0.1}


def small_spec(tmp_path: Path, algorithm: dict[str, Any] = ONE_HALF_STEP) -> RunSpec:
    """Two iterations of two shards a half-step, and evaluations of one."""
    return a_spec(
        tmp_path,
        algorithm=algorithm,
        iterations=2,
        shard_size=1,
        prompts={"sets": [{"path": str(tmp_path / "prompts.jsonl")}], "num_per_iteration": 2},
        sampling={"num_responses": 2, "max_new_tokens": 4},
        evaluation={"num_prompts": 1},
    )


def _create(store: MemoryStore, spec: RunSpec) -> RunRecord:
    record = RunRecord(
        id="run", spec=spec, created_at="2026-01-01T00:00:00Z", code_revision="0", num_prompts=5, skipped=[]
    )
    prompts = [
        Prompt(
            prompt_id=f"p{row}",
            messages=[Message(role="user", content=f"question {row}")],
            split="held_out" if row == 4 else "train",
        )
        for row in range(5)
    ]
    create_table(store, layout.prompts(record.id), Prompt, prompts)
    create_model(store, layout.run_record(record.id), record)
    return record


def _plan(store: MemoryStore, item: WorkItem) -> HalfStepPlan | EvaluationPlan | None:
    plan = PLAN.validate_json(store.read(layout.plan(item.step)))
    return None if plan.type == "base" else plan


def _generate(store: MemoryStore, item: WorkItem) -> None:
    plan = _plan(store, item)
    assert plan is not None
    version = plan.sample_from if isinstance(plan, HalfStepPlan) else plan.version
    prompts = read_table(store, layout.prompts(item.run), Prompt)
    rollouts = [_rollout(prompts[row], version) for row in plan.shards[item.shard].prompts]
    store.create(layout.rollouts(item.step, item.shard), encode(Rollout, rollouts))


def _rollout(prompt: Prompt, version: WeightVersion) -> Rollout:
    ids = [[seed_of(version.digest, prompt.prompt_id, sample) % 100] for sample in range(2)]
    return Rollout(
        prompt_id=prompt.prompt_id,
        prompt=prompt.messages,
        prompt_ids=[1],
        responses=[str(token) for (token,) in ids],
        response_ids=ids,
        log_probs=[[-1.0], [-1.0]],
        finish_reasons=["length", "length"],
        versions=[version.number] * 2,
        digests=[version.digest] * 2,
    )


def _judge(store: MemoryStore, item: WorkItem) -> None:
    rollouts = read_table(store, layout.rollouts(item.step, item.shard), Rollout)
    verdicts = [
        Verdict(
            prompt_id=rollout.prompt_id,
            a=0,
            b=1,
            draw=0,
            status="ok",
            probability=0.75,
            answer=1.0,
            judge="simulated",
            judge_revision="1",
            latency_s=0.0,
        )
        for rollout in rollouts
    ]
    store.create(layout.judgments(item.step, item.shard), encode(Verdict, verdicts))
    if isinstance(_plan(store, item), HalfStepPlan):
        pairs = [_pair(rollout) for rollout in rollouts]
        store.create(layout.pairs(item.step, item.shard), encode(PreferencePair, pairs))


def _pair(rollout: Rollout) -> PreferencePair:
    return PreferencePair(
        prompt_id=rollout.prompt_id,
        prompt=rollout.prompt,
        chosen=rollout.responses[0],
        rejected=rollout.responses[1],
        prompt_ids=rollout.prompt_ids,
        chosen_ids=rollout.response_ids[0],
        rejected_ids=rollout.response_ids[1],
        chosen_log_prob=-1.0,
        rejected_log_prob=-1.0,
        preference=1.0,
        probability=0.75,
        judge_revision="1",
        chosen_version=rollout.versions[0],
        rejected_version=rollout.versions[1],
    )


def _train(store: MemoryStore, item: WorkItem) -> None:
    plan = _plan(store, item)
    if isinstance(plan, EvaluationPlan):
        create_model(store, layout.scores(item.step), ReferenceScores(log_ratios=[0.0, 0.0]))
        return
    number, half, content = 0, None, b""
    if plan is not None:
        number, half, source = plan.iteration, plan.makes_half, layout.pairs_step(plan)
        content = b"".join(store.read(layout.pairs(source, shard.index)) for shard in plan.shards)
        content += plan.start_from.digest.encode()
    version = WeightVersion(
        run=item.run,
        number=number,
        half=half,
        digest=hashlib.sha256(content).hexdigest(),
        directory=f"{layout.weights(item.run)}/{label(number, half)}-1",
    )
    create_model(store, layout.published(item.step), PublishedWeights(version=version))


KINDS: tuple[Kind, ...] = ("generate", "judge", "train")
HANDLERS: dict[Kind, Callable[[MemoryStore, WorkItem], None]] = {
    "generate": _generate,
    "judge": _judge,
    "train": _train,
}
