"""Pages of pairs: in shard order, and no more is read than is shown."""

import pytest

from services.controller.runs.pairs import Pairs
from shared.contracts.records import Commit, PreferencePair
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import create_model
from shared.store.artifacts.tables import create_table
from tests.support.counted_store import CountedStore

STEP = layout.half_step("run", 1, 1)
SHARDS = (0, 1, 2, 99_999, 100_000)


def pair(number: int) -> PreferencePair:
    return PreferencePair(
        prompt_id=str(number),
        prompt=[],
        chosen="a",
        rejected="b",
        prompt_ids=[],
        chosen_ids=[],
        rejected_ids=[],
        chosen_log_prob=0.0,
        rejected_log_prob=0.0,
        preference=1.0,
        probability=None,
        judge_revision="1",
        chosen_version=0,
        rejected_version=0,
    )


@pytest.fixture
def store() -> CountedStore:
    """Five shards of three pairs, which are numbered through in shard order."""
    store = CountedStore()
    for place, shard in enumerate(SHARDS):
        create_table(store, layout.pairs(STEP, shard), PreferencePair, [pair(3 * place + n) for n in range(3)])
    return store


def commit(store: CountedStore) -> None:
    weights = WeightVersion(run="run", number=1, digest="d", directory="runs/run/weights/1")
    create_model(
        store, layout.commit("run", 1), Commit(iteration=1, weights=weights, num_pairs=15, digests={}, metrics={})
    )


def numbers(store: CountedStore, offset: int, limit: int) -> tuple[int, list[int]]:
    page = Pairs(store).page("run", 1, [STEP], offset, limit)
    return page.total, [int(item.prompt_id) for item in page.pairs]


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize(("offset", "limit"), [(0, 2), (2, 5), (8, 100), (15, 1), (0, 15)])
def test_pages_follow_the_shards_by_their_numbers(
    store: CountedStore, committed: bool, offset: int, limit: int
) -> None:
    """Also beyond shard 99,999, whose name comes last as text but not the one behind it."""
    if committed:
        commit(store)
    assert numbers(store, offset, limit) == (15, list(range(15))[offset : offset + limit])


def test_of_a_committed_iteration_only_the_shards_that_are_shown_are_read(store: CountedStore) -> None:
    commit(store)
    store.asked.clear()
    assert numbers(store, 0, 4) == (15, [0, 1, 2, 3])
    assert {layout.pairs(STEP, shard) for shard in SHARDS} & store.asked.keys() == {
        layout.pairs(STEP, 0),
        layout.pairs(STEP, 1),
    }


def test_a_shard_that_is_torn_is_left_out_and_named(store: CountedStore) -> None:
    store.objects[layout.pairs(STEP, 1)] = b"PAR1"
    page = Pairs(store).page("run", 1, [STEP], 0, 100)
    assert [int(item.prompt_id) for item in page.pairs] == [0, 1, 2, *range(6, 15)]
    assert (page.total, layout.pairs(STEP, 1) in str(page.problem)) == (12, True)
