"""How ranks share items, without the other ranks."""

import pytest
import torch

from services.trainer.ranks import ALONE, Ranks


def test_a_process_alone_is_all_ranks() -> None:
    assert ALONE.first
    assert torch.equal(ALONE.sum(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 2.0]))
    assert ALONE.all(True)
    assert not ALONE.all(False)
    assert list(ALONE.share("abc")) == [("a", True), ("b", True), ("c", True)]


@pytest.mark.parametrize("num_items", range(6))
def test_every_item_has_one_rank_and_every_rank_as_many_items(num_items: int) -> None:
    """With 5 items and 3 ranks, the last two ranks get the fourth and fifth, and the third one the fourth again."""
    items = list(range(num_items))
    shares = [list(Ranks(rank, 3).share(items)) for rank in range(3)]
    assert {len(share) for share in shares} == {-(-num_items // 3)}
    assert sorted(item for share in shares for item, mine in share if mine) == items
