# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""The processes that train together, and what they tell one another. A process that works alone is rank 0 of 1."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among `num`. Every method is a meeting: all ranks call it, in the same order, or all wait."""

    rank: int = 0
    num: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that reads, writes and publishes for all."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, elementwise, of a tensor in host memory that has the same shape everywhere."""
        if self.num > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def all(self, own: bool) -> bool:
        """Whether it is true of every rank."""
        return int(self.sum(torch.tensor(int(own)))) == self.num

    def wait(self) -> None:
        """Until every rank is here."""
        self.sum(torch.zeros(1))

    def share(self, items: Sequence[ItemT]) -> Iterator[tuple[ItemT, bool]]:
        """The items of this rank, each with True; together the ranks get every item once.

        Sharded models need the same number of forwards on every rank: where the items do not suffice for all, a rank
        gets one that is another's, with False.
        """
        for start in range(0, len(items), self.num):
            index = start + self.rank
            yield (items[index], True) if index < len(items) else (items[start], False)


ALONE = Ranks()
