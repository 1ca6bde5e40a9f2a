# torch.from_numpy is only partly typed.
# pyright: reportUnknownMemberType=false
"""Stored token ids as padded tensors. Nothing is tokenised here and no stop token is added.

Shapes: N rows (a prompt with one response), T tokens, R response tokens of the longest response. Rows are left-padded,
so that all responses end in the last column and a model's last R + 1 logits are all that is needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared.contracts.records import PreferencePair, Skipped
from shared.inpo.seeds import seed_of

BUCKETS = 16


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt's token ids and a response's, as they were sampled."""

    prompt_ids: list[int]
    response_ids: list[int]

    @property
    def num_tokens(self) -> int:
        """Tokens in all."""
        return len(self.prompt_ids) + len(self.response_ids)


@dataclass(frozen=True, slots=True)
class Padded:
    """Rows as tensors; masks are made from lengths, never from token ids (a pad token may be a real token)."""

    input_ids: Tensor  # [N, T]
    attention_mask: Tensor  # [N, T]
    position_ids: Tensor  # [N, T]
    targets: Tensor  # [N, R], the response tokens, right-aligned
    response_mask: Tensor  # [N, R]


def pad(rows: Sequence[Row], device: torch.device) -> Padded:
    """Rows as tensors on a device."""
    width = max(row.num_tokens for row in rows)
    longest = max(len(row.response_ids) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    attention = np.zeros((len(rows), width), dtype=np.int64)
    response = np.zeros((len(rows), longest), dtype=np.bool_)
    for index, row in enumerate(rows):
        ids[index, width - row.num_tokens :] = row.prompt_ids + row.response_ids
        attention[index, width - row.num_tokens :] = 1
        response[index, longest - len(row.response_ids) :] = True
    input_ids = torch.from_numpy(ids).to(device)
    attention_mask = torch.from_numpy(attention).to(device)
    return Padded(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp_(min=0),
        targets=input_ids[:, -longest:],
        response_mask=torch.from_numpy(response).to(device),
    )


def rows_of(pairs: Sequence[PreferencePair]) -> list[Row]:
    """Chosen rows of all pairs, then rejected rows: one concatenated forward for both."""
    chosen = [Row(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
    return chosen + [Row(pair.prompt_ids, pair.rejected_ids) for pair in pairs]


def fitting(pairs: Sequence[PreferencePair], max_tokens: int) -> tuple[list[PreferencePair], list[Skipped]]:
    """Pairs whose both sides fit; the others are listed, never cut on one side only."""
    kept: list[PreferencePair] = []
    skipped: list[Skipped] = []
    for pair in pairs:
        longest = len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
        if longest > max_tokens:
            reason = f"over-long pair: {longest} tokens, training.max_pair_tokens is {max_tokens}"
            skipped.append(Skipped(id=pair.prompt_id, reason=reason))
        else:
            kept.append(pair)
    return kept, skipped


def batches(lengths: Sequence[int], batch_size: int, *seed_parts: str | int) -> list[list[int]]:
    """Indices in batches of similar length, in an order that depends on the seed parts only.

    Sorting happens within windows of a few batches of a random permutation: little padding, and still a shuffle.
    """
    rng = np.random.Generator(np.random.Philox(key=seed_of("batches", *seed_parts)))
    order = [int(index) for index in rng.permutation(len(lengths))]
    window = batch_size * BUCKETS
    found: list[list[int]] = []
    for start in range(0, len(order), window):
        chunk = sorted(order[start : start + window], key=lambda index: lengths[index])
        found += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [found[int(index)] for index in rng.permutation(len(found))]


def by_length(rows: Sequence[Row], batch_size: int) -> Iterator[list[int]]:
    """Indices of all rows in batches of similar length, for work whose order does not matter."""
    order = sorted(range(len(rows)), key=lambda index: rows[index].num_tokens)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
