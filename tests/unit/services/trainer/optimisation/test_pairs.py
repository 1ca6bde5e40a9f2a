"""Reading the pairs of a half-step."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.errors import NoPairsError, WrongPolicyError
from services.trainer.optimisation.pairs import Pairs, read_pairs
from shared.contracts.plans import UniformMixtureWeights
from shared.contracts.records import PreferencePair, Skipped
from shared.contracts.spec import TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.store.artifacts.store import CorruptArtifactError, DirectoryStore
from tests.support import tiny_models, tiny_training


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def version(store: DirectoryStore, tmp_path: Path) -> WeightVersion:
    return tiny_models.publish(store, "run", 0, tiny_models.make_model(tmp_path / "model", seed=1, context=32))


def pair(prompt_id: str, prompt: int, chosen: int, rejected: int) -> PreferencePair:
    """A pair with so many tokens; token ids count up from 3, log-probs are -1 and -2 a token."""
    return PreferencePair(
        prompt_id=prompt_id,
        prompt=[],
        chosen="",
        rejected="",
        prompt_ids=list(range(3, 3 + prompt)),
        chosen_ids=list(range(3, 3 + chosen)),
        rejected_ids=list(range(3, 3 + rejected)),
        chosen_log_prob=-1.0 * chosen,
        rejected_log_prob=-2.0 * rejected,
        preference=0.75,
        probability=0.75,
        judge_revision="test",
        chosen_version=0,
        rejected_version=0,
    )


def read(store: DirectoryStore, version: WeightVersion, *pairs: PreferencePair, max_pair_tokens: int = 100) -> Pairs:
    training = TrainingSpec(max_pair_tokens=max_pair_tokens)
    item = tiny_training.put_half_step(store, version, pairs, training=training)
    return read_pairs(store, item.step, tiny_training.read_plan(store, item))


def test_pairs_come_from_all_shards_in_shard_order(store: DirectoryStore, version: WeightVersion) -> None:
    """Two shards of two pairs; rows 0 to 3 are the chosen responses, rows 4 to 7 the rejected ones."""
    pairs = read(store, version, pair("a", 1, 2, 3), pair("b", 2, 1, 1), pair("c", 1, 1, 4), pair("d", 3, 3, 3))
    assert pairs.prompt_ids == ["a", "b", "c", "d"]
    assert pairs.sequences.response_lengths.tolist() == [2, 1, 1, 3, 3, 1, 4, 3]
    assert pairs.sampler.tolist() == [-2.0, -1.0, -1.0, -3.0, -6.0, -2.0, -8.0, -6.0]
    assert pairs.lengths().tolist() == [4, 3, 5, 6]
    assert pairs.preference.tolist() == [0.75] * 4
    assert pairs.rows(np.array([1, 3])).tolist() == [1, 3, 5, 7]


def test_an_over_long_pair_is_left_out_and_listed(store: DirectoryStore, version: WeightVersion) -> None:
    """4 + 6 = 10 tokens fit into 10, 5 + 6 = 11 on the rejected side do not."""
    pairs = read(store, version, pair("fits", 4, 6, 2), pair("long", 5, 2, 6), max_pair_tokens=10)
    assert pairs.prompt_ids == ["fits"]
    reason = "prompt + response has 11 tokens, training.max_pair_tokens is 10"
    assert pairs.skipped == [Skipped(id="long", reason=reason)]


def test_the_models_context_limits_pairs_too(store: DirectoryStore, version: WeightVersion) -> None:
    """A context of 32 tokens is less than max_pair_tokens, 100."""
    pairs = read(store, version, pair("fits", 16, 16, 2), pair("long", 16, 17, 2))
    assert pairs.prompt_ids == ["fits"]
    assert pairs.skipped[0].reason == "prompt + response has 33 tokens, the model's context is 32"


def test_no_pair_left_is_an_error_that_counts_what_was_dropped_and_why(
    store: DirectoryStore, version: WeightVersion
) -> None:
    """The oracle dropped two ties, the trainer one pair of 13 tokens."""
    ties = [Skipped(id=name, reason="tied final") for name in "xy"]
    training = TrainingSpec(max_pair_tokens=8)
    item = tiny_training.put_half_step(store, version, [pair("long", 5, 8, 2)], training=training, skipped=ties)
    with pytest.raises(NoPairsError, match="dropped: 3") as failure:
        read_pairs(store, item.step, tiny_training.read_plan(store, item))
    assert "2 x tied final" in str(failure.value)
    assert "1 x prompt + response has 13 tokens, training.max_pair_tokens is 8" in str(failure.value)


@pytest.mark.parametrize("field", ["chosen_version", "rejected_version"])
def test_a_pair_with_a_response_of_another_version_is_refused(
    store: DirectoryStore, version: WeightVersion, field: str
) -> None:
    foreign = pair("old", 1, 1, 1).model_copy(update={field: 4})
    with pytest.raises(WrongPolicyError, match="prompt old was sampled by version 4, the plan samples from run/v0"):
        read(store, version, foreign)


@pytest.mark.parametrize(
    ("field", "ids", "message"),
    [
        ("chosen_ids", [], "empty chosen_ids"),
        ("rejected_ids", [3, tiny_models.VOCAB_SIZE], "outside the vocabulary of 259"),
    ],
)
def test_tokens_that_the_model_does_not_have_are_refused(
    store: DirectoryStore, version: WeightVersion, field: str, ids: list[int], message: str
) -> None:
    with pytest.raises(CorruptArtifactError, match=message):
        read(store, version, pair("odd", 1, 1, 1).model_copy(update={field: ids}))


def test_equal_work_has_an_equal_digest(store: DirectoryStore, version: WeightVersion, tmp_path: Path) -> None:
    pairs = [pair("a", 1, 2, 3), pair("b", 2, 1, 1)]
    first = read(store, version, *pairs)
    other = DirectoryStore(tmp_path / "other")
    copy = tiny_models.publish(other, "run", 0, tmp_path / "model")
    changed = [pairs[0], pairs[1].model_copy(update={"preference": 0.5})]
    assert read(other, copy, *changed).digest() != first.digest()


def test_pairs_of_a_mixture_tell_the_version_of_each_response(store: DirectoryStore, version: WeightVersion) -> None:
    """Versions 0 and 1 are in the mixture, 2 is not."""
    other = version.model_copy(update={"number": 1, "digest": "1" * 64})
    mixed = pair("m", 1, 1, 1).model_copy(update={"rejected_version": 1})
    item = tiny_training.put_half_step(store, version, [mixed, mixed])
    plan = tiny_training.read_plan(store, item)
    both = plan.model_copy(update={"mixture": UniformMixtureWeights(versions=[version, other])})
    assert read_pairs(store, item.step, both).sampled_by.tolist() == [0, 0, 1, 1]
    with pytest.raises(WrongPolicyError, match="prompt m was sampled by version 1, the plan samples from run/v0"):
        read_pairs(store, item.step, plan)


def test_win_rates_are_read_where_the_loss_needs_them_and_missed_where_they_are_not_there(
    store: DirectoryStore, version: WeightVersion
) -> None:
    rated = pair("r", 1, 1, 1).model_copy(update={"chosen_win_rate": 0.75, "rejected_win_rate": 0.25})
    item = tiny_training.put_half_step(store, version, [rated, rated])
    plan = tiny_training.read_plan(store, item)
    assert read_pairs(store, item.step, plan).win_rates is None
    wanting = plan.model_copy(update={"win_rates": True})
    found = read_pairs(store, item.step, wanting).win_rates
    assert found is not None
    assert found.tolist() == [0.75, 0.75, 0.25, 0.25]
    bare = tiny_training.put_half_step(store, version, [pair("b", 1, 1, 1)], iteration=2)
    with pytest.raises(CorruptArtifactError, match="win rates, which these pairs do not have"):
        read_pairs(store, bare.step, wanting)


def test_the_work_has_another_name_when_a_version_or_a_win_rate_changes(
    store: DirectoryStore, version: WeightVersion
) -> None:
    """So a checkpoint of other work is never taken up."""
    names: set[str] = set()
    for number, changes in enumerate(({}, {"chosen_win_rate": 0.5}, {"chosen_win_rate": 0.6}), start=1):
        rated = pair("r", 1, 1, 1).model_copy(update={"rejected_win_rate": 0.1, "chosen_win_rate": 0.1} | changes)
        item = tiny_training.put_half_step(store, version, [rated], iteration=number)
        plan = tiny_training.read_plan(store, item).model_copy(update={"win_rates": True})
        names.add(read_pairs(store, item.step, plan).digest())
    assert len(names) == 3
