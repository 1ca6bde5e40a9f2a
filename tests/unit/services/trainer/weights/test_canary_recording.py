# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""What a canary is made of."""

from pathlib import Path
from typing import cast

import pytest
import torch

from services.trainer.forward.sequences import Sequences
from services.trainer.weights.canary_recording import canary_start, sampled_sequences
from shared.models.loading import load
from tests.support import tiny_models

CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path: Path) -> torch.nn.Module:
    return load(tiny_models.make_model(tmp_path / "model", seed=1), torch.float32)


def test_the_reference_policys_canary_is_its_own_text_and_the_same_each_time(model: torch.nn.Module) -> None:
    """Some hundred tokens that it finds likelier than random ones; torch's own draws go on as if nothing had been."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = sampled_sequences(model), sampled_sequences(model)
    assert torch.equal(torch.rand(1), expected)
    assert first == second
    assert [len(ids) for ids in first] == [48] * 16
    own = torch.tensor([value for row in model_log_probs(model, first) for value in row]).mean()
    draws = torch.Generator().manual_seed(1)
    random = cast(list[list[int]], torch.randint(0, 256, (16, 48), generator=draws).tolist())
    assert own > torch.tensor([value for row in model_log_probs(model, random) for value in row]).mean()


def model_log_probs(model: torch.nn.Module, sequences: list[list[int]]) -> list[list[float]]:
    log_probs = model(input_ids=torch.tensor(sequences)).logits[:, :-1].log_softmax(-1)
    return cast(list[list[float]], log_probs.gather(-1, torch.tensor(sequences)[:, 1:, None])[..., 0].tolist())


def test_a_trained_versions_canary_holds_both_responses_of_pairs_from_all_over(model: torch.nn.Module) -> None:
    """100 pairs of 1 + 3 tokens: both responses of 32 of them, the first and the last included."""
    pairs = Sequences([([1], [index % 200, 7, 8]) for index in range(200)])
    start = canary_start(model, pairs, CPU)
    assert len(start.sequences) == 64
    assert [ids[1] for ids in start.sequences[:2]] == [0, 100]
    assert [ids[1] for ids in start.sequences[-2:]] == [99, 199]
    assert [len(row) for row in start.log_probs] == [3] * 64


def test_long_responses_are_cut_and_fewer(model: torch.nn.Module) -> None:
    """2,048 tokens are enough: 16 responses of 128, of 200 each."""
    pairs = Sequences([([1, 2], [3] * 200) for _ in range(100)])
    start = canary_start(model, pairs, CPU)
    assert [len(ids) for ids in start.sequences] == [130] * 16
    assert sum(len(row) for row in start.log_probs) == 2048
