# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""Token sequences as padded batches."""

import numpy as np
import pytest
import torch

from services.trainer.forward import sequences as module
from services.trainer.forward.sequences import Sequences

CPU = torch.device("cpu")


def test_rows_are_padded_on_the_left_so_that_all_responses_end_in_the_last_column() -> None:
    """Prompts of 1 and 3 tokens with responses of 2 and 1: four columns, two response columns."""
    batch = Sequences([([5], [6, 7]), ([1, 2, 3], [4])]).batch(np.array([0, 1]), CPU)
    assert batch.ids.tolist() == [[0, 5, 6, 7], [1, 2, 3, 4]]
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 0, 1, 2], [0, 1, 2, 3]]
    assert batch.targets.tolist() == [[6, 7], [3, 4]]
    assert batch.target_mask.tolist() == [[True, True], [False, True]]


def test_masks_come_from_lengths_even_where_real_tokens_equal_the_padding() -> None:
    """The padding's id 0 also begins the second prompt and ends its response."""
    batch = Sequences([([9, 9, 9], [9]), ([0], [0, 0])]).batch(np.array([1, 0]), CPU)
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert batch.target_mask.tolist() == [[True, True], [False, True]]


def test_a_sequence_without_prompt_or_response_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Sequences([([], [1])])
    with pytest.raises(ValueError, match="at least one"):
        Sequences([([1], [])])


def test_groups_hold_every_row_once_and_stay_within_the_memory_limits() -> None:
    """With V logits a column, a group of n rows needs n (R + 1) V of them; a row that alone exceeds it goes alone."""
    rng = np.random.default_rng(0)
    sequences = Sequences(([1] * int(rng.integers(1, 50)), [2] * int(rng.integers(1, 60))) for _ in range(200))
    vocab_size = module.MAX_BATCH_LOGITS // 300
    groups = list(sequences.by_length(np.arange(200), vocab_size))
    assert sorted(row for group in groups for row in group) == list(range(200))
    for group in groups:
        assert len(group) * (sequences.response_lengths[group].max() + 1) <= 300 or len(group) == 1
    assert len(groups) < 100
