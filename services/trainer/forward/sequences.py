# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""Token sequences in one flat array, and batches of them as tensors.

Shapes: B sequences in a batch, T tokens, R response tokens, M sequences in all.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]

MAX_BATCH_TOKENS = 2**14
MAX_BATCH_LOGITS = 2**26


@dataclass(frozen=True, slots=True)
class Batch:
    """Left-padded sequences: every response ends at the last column, so the logits of R + 1 columns are enough.

    `ids`, `attention_mask` and `position_ids` are [B, T]; `targets` [B, R] are the response tokens and `target_mask`
    [B, R] tells them from padding. Masks come from lengths, never from token ids: padding may be a real token.
    """

    ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    targets: Tensor
    target_mask: Tensor


class Sequences:
    """M sequences of prompt + response tokens, exactly as they were sampled."""

    def __init__(self, sequences: Iterable[tuple[list[int], list[int]]]) -> None:
        parts: list[list[int]] = []
        response_lengths: list[int] = []
        for prompt_ids, response_ids in sequences:
            if not prompt_ids or not response_ids:
                raise ValueError("a sequence needs at least one prompt token and one response token")
            parts.append(prompt_ids + response_ids)
            response_lengths.append(len(response_ids))
        self.tokens = np.array([token for part in parts for token in part], dtype=np.int32)
        self.lengths = np.array([len(part) for part in parts], dtype=np.int64)
        self.response_lengths = np.array(response_lengths, dtype=np.int64)
        self._starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, row: int) -> tuple[list[int], list[int]]:
        """Prompt and response tokens of one sequence."""
        start, end = int(self._starts[row]), int(self._starts[row] + self.lengths[row])
        tokens: list[int] = self.tokens[start:end].tolist()
        num_prompt = len(tokens) - int(self.response_lengths[row])
        return tokens[:num_prompt], tokens[num_prompt:]

    def digest(self) -> bytes:
        """sha256 of all tokens and lengths."""
        arrays = (self.tokens, self.lengths, self.response_lengths)
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()

    def batch(self, rows: Rows, device: torch.device) -> Batch:
        """The sequences of these rows as tensors."""
        lengths, num_targets = self.lengths[rows, None], self.response_lengths[rows, None]
        width, response_width = int(lengths.max()), int(num_targets.max())
        position = np.arange(width) - (width - lengths)
        mask = position >= 0
        position = np.maximum(position, 0)
        ids = np.where(mask, self.tokens[self._starts[rows, None] + position], 0).astype(np.int64)
        target_mask = np.arange(response_width) >= response_width - num_targets

        def tensor(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        return Batch(
            ids=tensor(ids),
            attention_mask=tensor(mask.astype(np.int64)),
            position_ids=tensor(position),
            targets=tensor(ids[:, width - response_width :]),
            target_mask=tensor(target_mask),
        )

    def by_length(self, rows: Rows, vocab_size: int) -> Iterator[Rows]:
        """The rows in groups of similar length, each small enough for one forward without gradients."""
        ordered = rows[np.argsort(self.lengths[rows], kind="stable")[::-1]]
        start = 0
        while start < len(ordered):
            widest = int(self.lengths[ordered[start]])
            responses = np.maximum.accumulate(self.response_lengths[ordered[start:]])
            count = np.arange(1, len(responses) + 1)
            fits = (count * widest <= MAX_BATCH_TOKENS) & (count * (responses + 1) * vocab_size <= MAX_BATCH_LOGITS)
            size = max(1, int(fits.sum()))
            yield ordered[start : start + size]
            start += size
