"""The process group of a training: what it finds comes back, and nothing of it outlives what ended it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.trainer.errors import GroupFailedError
from services.trainer.settings import TrainerSettings
from services.trainer.worker import TrainHandler
from shared.contracts.records import PublishedWeights
from shared.contracts.spec import TrainingSpec
from shared.contracts.work import WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import CorruptArtifactError, DirectoryStore, read_model
from shared.store.weights import manifests
from tests.support import tiny_models
from tests.support.data import ROOT
from tests.support.processes import alive, children, command
from tests.support.tiny_training import ATTEMPT, make_pairs, put_evaluation, put_half_step
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("distributed")]

# 40 optimizer steps of some 50 ms: a training that is found under way.
LONG = TrainingSpec(
    learning_rate=1e-4, batch_size=4, micro_batch_size=2, num_epochs=20, checkpoint_every_steps=2, warmup_fraction=0.0
)
STARTS_WITHIN_S = 120.0

WORKER = """
import sys
from pathlib import Path
from services.trainer.settings import TrainerSettings
from services.trainer.worker import TrainHandler
from shared.contracts.work import Attempt, WorkItem
from shared.store.artifacts.store import DirectoryStore

settings = TrainerSettings.model_validate_json(sys.argv[2])
TrainHandler(DirectoryStore(Path(sys.argv[1])), settings)(WorkItem.model_validate_json(sys.argv[3]), Attempt(number=1))
"""


def settings_of(strategy: str, **more: Any) -> TrainerSettings:
    settings: dict[str, Any] = {"trainer_strategy": strategy, **more}
    return TrainerSettings(trainer_device="cpu", trainer_num_threads=1, trainer_num_processes=2, **settings)


class HalfStep:
    """A store with a half-step to train, and copies of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = DirectoryStore(root / "store")
        model = tiny_models.make_model(root / "model", seed=1)
        self.base = tiny_models.publish(self.store, "run", 0, model)
        self.item = put_half_step(self.store, self.base, make_pairs(model, 8, seed=1), training=LONG)

    def copy(self) -> DirectoryStore:
        """An equal store, of which nothing is trained yet."""
        return DirectoryStore(Path(shutil.copytree(self.store.root, self.root / "copy")))


@pytest.fixture
def half_step(tmp_path: Path) -> HalfStep:
    return HalfStep(tmp_path)


def checkpointed(store: DirectoryStore, item: WorkItem) -> bool:
    """Whether the training has a complete checkpoint, and is not done."""
    heads = list(store.path(layout.scratch(item.run)).glob("*/checkpoint.json"))
    return bool(heads) and not store.exists(layout.published(item.step))


def ranks_under(pid: int) -> list[int]:
    """The ranks of the group whose launcher is a child of `pid`."""
    launchers = [child for child in children(pid) if "services.trainer.processes.torchrun" in command(child)]
    found = [rank for launcher in launchers for rank in children(launcher)]
    return [rank for rank in found if "services.trainer.processes.rank_main" in command(rank)]


def published(store: DirectoryStore, item: WorkItem) -> PublishedWeights:
    return read_model(store, layout.published(item.step), PublishedWeights)


def test_a_killed_rank_ends_the_group_and_the_next_try_ends_like_a_straight_run(half_step: HalfStep) -> None:
    """Kill -9 of rank 1 in the middle: the error says so. Final metrics and weights differ by less than 1e-6."""
    handler = TrainHandler(half_step.store, settings_of("fsdp2"))
    with ThreadPoolExecutor(1) as pool:
        trying: Future[dict[str, Any]] = pool.submit(handler, half_step.item, ATTEMPT)
        wait_until(
            lambda: checkpointed(half_step.store, half_step.item) or trying.done(), STARTS_WITHIN_S, "a checkpoint"
        )
        ranks = ranks_under(os.getpid())
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        with pytest.raises(GroupFailedError, match=r"^rank 1 was killed by SIGKILL; the group was ended"):
            trying.result()
    assert not [rank for rank in ranks if alive(rank)]
    assert not half_step.store.exists(layout.published(half_step.item.step))
    assert checkpointed(half_step.store, half_step.item)

    straight = half_step.copy()
    shutil.rmtree(straight.path(layout.scratch("run")))
    handler(half_step.item, ATTEMPT)
    TrainHandler(straight, settings_of("fsdp2"))(half_step.item, ATTEMPT)
    resumed, expected = (published(store, half_step.item) for store in (half_step.store, straight))
    assert resumed.metrics.pop("train_s") > 0.0
    expected.metrics.pop("train_s")
    assert resumed.metrics == pytest.approx(expected.metrics, rel=1e-6)
    canaries = [
        manifests.read_canary(store.path(found.version.directory))
        for store, found in ((half_step.store, resumed), (straight, expected))
    ]
    for row, expected_row in zip(canaries[0].log_probs, canaries[1].log_probs, strict=True):
        assert row == pytest.approx(expected_row, rel=0, abs=1e-6)
    _check_publishing(half_step, resumed)


def _check_publishing(half_step: HalfStep, found: PublishedWeights) -> None:
    """What a group publishes is what a single process would: names, dtypes, shapes, readable files, a true canary."""
    directory = half_step.store.path(found.version.directory)
    manifest = manifests.verify(directory, found.version)
    base = half_step.store.path(f"{layout.weights('run')}/0000-1")
    manifests.check_headers(manifests.tensor_headers(directory), manifests.tensor_headers(base))
    assert all((directory / file.name).stat().st_mode & 0o777 == 0o644 for file in manifest.files)
    canary = manifests.read_canary(directory)
    for row, expected in zip(canary.log_probs, tiny_models.direct_log_probs(directory, canary.sequences), strict=True):
        assert row == pytest.approx(expected[-len(row) :], abs=1e-5)


def test_a_killed_worker_leaves_no_process_of_its_group(half_step: HalfStep) -> None:
    """Kill -9 of the worker in the middle of the training: launcher and ranks are gone, by themselves."""
    arguments = [str(half_step.store.root), settings_of("fsdp2").model_dump_json(), half_step.item.model_dump_json()]
    with subprocess.Popen([sys.executable, "-c", WORKER, *arguments], cwd=ROOT, stderr=subprocess.PIPE) as worker:
        assert worker.stderr is not None
        threading.Thread(target=worker.stderr.read, daemon=True).start()
        wait_until(
            lambda: checkpointed(half_step.store, half_step.item) or worker.poll() is not None,
            STARTS_WITHIN_S,
            "a checkpoint",
        )
        group = [*children(worker.pid), *ranks_under(worker.pid)]
        assert len(group) == 3
        worker.kill()
    wait_until(lambda: not [pid for pid in group if alive(pid)], 30.0, "the end of launcher and ranks")
    assert not half_step.store.exists(layout.published(half_step.item.step))


def test_what_a_rank_finds_wrong_with_the_work_is_raised_as_it_is(half_step: HalfStep) -> None:
    """An evaluation of rollouts that other weights gave: the reason, and not how the ranks ended."""
    base = half_step.base
    item, _ = put_evaluation(half_step.store, base, base, digest="0" * 64)
    with pytest.raises(CorruptArtifactError, match=r"prompt p0 was sampled by version 0@000000000000, the plan"):
        TrainHandler(half_step.store, settings_of("deepspeed"))(item, ATTEMPT)
    assert not half_step.store.exists(layout.scores(item.step))
