"""Which pairs an optimizer step sees, and its learning rate."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.optimisation.schedule import Schedule, learning_rate
from shared.contracts.plans import HalfStepPlan
from shared.contracts.spec import TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.store.artifacts.store import DirectoryStore
from tests.support import tiny_training

LENGTHS = np.random.default_rng(1).integers(5, 40, size=23)


@pytest.fixture
def plan(tmp_path: Path) -> HalfStepPlan:
    store = DirectoryStore(tmp_path)
    version = WeightVersion(run="run", number=0, digest="0", directory="nowhere")
    training = TrainingSpec(batch_size=8, micro_batch_size=3, num_epochs=2)
    return tiny_training.read_plan(store, tiny_training.put_half_step(store, version, [], training=training))


def test_every_epoch_sees_every_pair_once_in_steps_of_nearly_equal_size(plan: HalfStepPlan) -> None:
    """23 pairs in steps of at most 8: 8 + 8 + 7, and never a last step of a handful."""
    schedule = Schedule(plan, LENGTHS)
    steps = [np.concatenate(schedule.micro_batches(step)) for step in range(schedule.num_steps)]
    assert [len(step) for step in steps] == [8, 8, 7, 8, 8, 7]
    epochs = [np.concatenate(steps[:3]), np.concatenate(steps[3:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(23))] * 2
    assert list(epochs[0]) != list(epochs[1])


def test_a_step_depends_on_plan_and_number_only(plan: HalfStepPlan) -> None:
    """Asked for in any order, as a resumed training does; another iteration gets another order."""
    forth, back = Schedule(plan, LENGTHS), Schedule(plan, LENGTHS)
    straight = [[b.tolist() for b in forth.micro_batches(step)] for step in range(6)]
    assert [[b.tolist() for b in back.micro_batches(step)] for step in reversed(range(6))] == straight[::-1]
    other = Schedule(plan.model_copy(update={"iteration": 2}), LENGTHS)
    assert [b.tolist() for b in other.micro_batches(0)] != straight[0]


def test_pairs_of_similar_length_share_a_forward(plan: HalfStepPlan) -> None:
    schedule = Schedule(plan, LENGTHS)
    for step in range(schedule.num_steps):
        micro_batches = schedule.micro_batches(step)
        assert max(len(batch) for batch in micro_batches) <= 3
        lengths = [LENGTHS[pair] for batch in micro_batches for pair in batch]
        assert lengths == sorted(lengths)


def test_the_size_of_micro_batches_does_not_change_which_pairs_share_a_step(plan: HalfStepPlan) -> None:
    whole = plan.model_copy(update={"training": plan.training.model_copy(update={"micro_batch_size": 8})})
    for step in range(6):
        parts, (together,) = Schedule(plan, LENGTHS).micro_batches(step), Schedule(whole, LENGTHS).micro_batches(step)
        assert {int(pair) for part in parts for pair in part} == {int(pair) for pair in together}


def test_the_learning_rate_warms_up_and_follows_a_cosine() -> None:
    """10 steps, 20 % warm-up: 1/2, 1, then (1 + cos(pi k / 8)) / 2: 1 at k = 0, 1/2 at k = 4, above 0 at the end."""
    spec = TrainingSpec(learning_rate=1.0, warmup_fraction=0.2)
    rates = [learning_rate(spec, step, 10) for step in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[6] == pytest.approx(0.5)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0.0 < rates[-1] < 0.05


def test_a_single_step_is_taken_at_the_full_learning_rate() -> None:
    assert learning_rate(TrainingSpec(learning_rate=0.25, warmup_fraction=0.03), 0, 1) == 0.25


@pytest.mark.parametrize("num_ranks", [2, 3, 5])
def test_ranks_have_equally_many_forwards_and_together_the_same_pairs(plan: HalfStepPlan, num_ranks: int) -> None:
    """No forward has more than micro_batch_size pairs, and groups of one forward are of similar length on all ranks."""
    schedule = Schedule(plan, LENGTHS)
    for step in range(schedule.num_steps):
        groups = schedule.micro_batches(step, num_ranks)
        assert len(groups) % num_ranks == 0
        assert max(len(group) for group in groups) <= 3
        pairs = sorted(int(pair) for group in groups for pair in group)
        assert pairs == sorted(int(pair) for batch in schedule.micro_batches(step) for pair in batch)
        lengths = [LENGTHS[pair] for group in groups for pair in group]
        assert lengths == sorted(lengths)


def test_a_step_of_fewer_pairs_than_ranks_has_empty_groups(plan: HalfStepPlan) -> None:
    """2 pairs, 3 ranks: one forward each, of 1, 1 and 0 pairs."""
    assert [len(group) for group in Schedule(plan, LENGTHS[:2]).micro_batches(0, 3)] == [1, 1, 0]
