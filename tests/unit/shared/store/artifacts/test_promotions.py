"""Promotions: a history that only grows, rollbacks that walk it backwards, and no number given twice."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.contracts.weights import Promotion, WeightVersion
from shared.store.artifacts import promotions
from shared.store.artifacts.store import CorruptArtifactError, DirectoryStore, create_model


def version(number: int) -> WeightVersion:
    return WeightVersion(run="run", number=number, digest=f"{number}" * 64, directory=f"runs/run/weights/{number}")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_nothing_is_promoted_at_first(store: DirectoryStore) -> None:
    assert promotions.current(store) is None
    assert promotions.history(store) == []
    with pytest.raises(promotions.NothingPromotedError, match="no version is promoted"):
        promotions.roll_back(store, by="me")


def test_the_newest_promotion_is_in_force_and_says_who_and_what_was_before(store: DirectoryStore) -> None:
    promotions.promote(store, version(1), by="me")
    second = promotions.promote(store, version(2), by="you")
    assert promotions.current(store) == second
    assert (second.number, second.version, second.by, second.previous) == (2, version(2), "you", 1)
    assert [item.version.number for item in promotions.history(store)] == [2, 1]


def test_promoting_what_is_promoted_changes_nothing(store: DirectoryStore) -> None:
    first = promotions.promote(store, version(1), by="me")
    assert promotions.promote(store, version(1), by="you") == first
    assert len(promotions.history(store)) == 1


def test_rollbacks_walk_back_one_promotion_each_and_end_at_the_first(store: DirectoryStore) -> None:
    """Promoted 1, 2, 3; back to 2; promoted 4; back to 2, to 1, and no further: 3 was left behind by a rollback."""
    for number in (1, 2, 3):
        promotions.promote(store, version(number), by="me")
    assert promotions.roll_back(store, by="me").version.number == 2
    promotions.promote(store, version(4), by="me")
    assert [promotions.roll_back(store, by="me").version.number for _ in range(2)] == [2, 1]
    with pytest.raises(promotions.NothingPromotedError, match="nothing was promoted before run@1"):
        promotions.roll_back(store, by="me")
    assert len(promotions.history(store)) == 7


def test_a_torn_promotion_hides_no_other_and_the_next_follows_it(store: DirectoryStore) -> None:
    """Outsiders are refused rather than served what was in force before; a rollback or a promotion ends that."""
    for number in (1, 2):
        promotions.promote(store, version(number), by="me")
    store.path("promotions/0002.json").write_text("")
    with pytest.raises(CorruptArtifactError, match=r"promotions/0002\.json"):
        promotions.current(store)
    found = promotions.found(store)
    assert (found.in_force, [item.number for item in found.history], len(found.problems)) == (None, [1], 1)
    returned = promotions.roll_back(store, by="me")
    assert (returned.number, returned.version) == (3, version(1))
    assert promotions.promote(store, version(2), by="me").number == 4


def test_promotions_are_read_by_their_numbers_beyond_9999(store: DirectoryStore) -> None:
    """As text 10000.json comes before 9999.json."""
    first = promotions.promote(store, version(1), by="me")
    create_model(store, "promotions/9999.json", first.model_copy(update={"number": 9999}))
    for number in (2, 3):
        made = promotions.promote(store, version(number), by="me")
        assert promotions.current(store) == made
    assert [item.number for item in promotions.history(store)] == [10001, 10000, 9999, 1]


def test_a_request_that_is_repeated_promotes_and_rolls_back_once(store: DirectoryStore) -> None:
    for number in (1, 2, 3):
        promotions.promote(store, version(number), by="me")
    first = promotions.roll_back(store, by="me", request="r")
    assert promotions.roll_back(store, by="me", request="r") == first
    assert promotions.current(store) == first
    again = promotions.promote(store, version(5), by="me", request="p")
    promotions.promote(store, version(6), by="me")
    assert promotions.promote(store, version(5), by="me", request="p") == again


def test_promotions_at_the_same_moment_get_different_numbers_and_a_whole_history(store: DirectoryStore) -> None:
    """Sixteen threads promote sixteen versions: numbers 1 to 16, each `previous` the number before."""

    def promote(number: int) -> Promotion:
        return promotions.promote(store, version(number), by="me")

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(promote, range(16)))
    assert sorted(item.number for item in made) == list(range(1, 17))
    assert {item.version.number for item in promotions.history(store)} == set(range(16))
    assert [item.previous for item in reversed(promotions.history(store))] == [None, *range(1, 16)]
