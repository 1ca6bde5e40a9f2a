# torch's and transformers' stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""Log-probs of responses: batched, padded, and still those of one response alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from services.trainer.errors import NotFiniteError
from services.trainer.forward.log_probs import Compute, batch_log_probs, canary_log_probs, log_probs_of
from services.trainer.forward.sequences import Sequences
from shared.models.loading import load
from tests.support import tiny_models

COMPUTE = Compute(torch.device("cpu"))


def random_rows(seed: int, num: int) -> list[tuple[list[int], list[int]]]:
    """Prompts of 1 to 12 and responses of 1 to 20 tokens; every third response ends in EOS."""
    rng = np.random.default_rng(seed)

    def tokens(longest: int) -> list[int]:
        return [int(token) for token in rng.integers(0, tiny_models.VOCAB_SIZE, size=rng.integers(1, longest + 1))]

    return [(tokens(12), tokens(19) + [tiny_models.EOS] * (index % 3 == 0)) for index in range(num)]


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_padding_never_changes_a_log_prob(tmp_path: Path, pad_is_eos: bool) -> None:
    """All rows in one batch against one plain forward a row, which knows no padding at all."""
    model = load(tiny_models.make_model(tmp_path / "model", seed=1, pad_is_eos=pad_is_eos), torch.float32)
    rows = random_rows(seed=2, num=12)
    expected = [
        sum(row[len(prompt) - 1 :])
        for (prompt, _), row in zip(
            rows, tiny_models.direct_log_probs(tmp_path / "model", [p + r for p, r in rows]), strict=True
        )
    ]
    sequences = Sequences(rows)
    together = batch_log_probs(model, sequences.batch(np.arange(12), COMPUTE.device), COMPUTE)
    assert together.tolist() == pytest.approx(expected, abs=1e-5 * 20)
    alone = [batch_log_probs(model, sequences.batch(np.array([i]), COMPUTE.device), COMPUTE).item() for i in range(12)]
    assert together.tolist() == pytest.approx(alone, abs=1e-5 * 20)


def test_a_model_with_learned_positions_is_scored_from_position_0(tmp_path: Path) -> None:
    """GPT-2 embeds absolute positions: left padding without position ids would shift them."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        GPT2LMHeadModel(
            GPT2Config(vocab_size=tiny_models.VOCAB_SIZE, n_positions=64, n_embd=32, n_layer=2, n_head=4)
        ).save_pretrained(tmp_path / "model")
    rows = random_rows(seed=4, num=6)
    model = load(tmp_path / "model", torch.float32)
    found = log_probs_of(model, Sequences(rows), COMPUTE, name="gpt2")
    direct = tiny_models.direct_log_probs(tmp_path / "model", [prompt + response for prompt, response in rows])
    for value, (prompt, _), row in zip(found, rows, direct, strict=True):
        assert value == pytest.approx(sum(row[len(prompt) - 1 :]), abs=2e-4)


def test_chosen_rows_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    model = load(tiny_models.make_model(tmp_path / "model", seed=1), torch.float32)
    sequences = Sequences(random_rows(seed=5, num=9))
    everything = log_probs_of(model, sequences, COMPUTE, name="all")
    rows = np.array([7, 0, 3])
    assert log_probs_of(model, sequences, COMPUTE, name="some", rows=rows) == pytest.approx(everything[rows], abs=1e-4)


def test_log_probs_that_are_not_finite_are_refused_by_the_policys_name(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_models.make_model(tmp_path / "model", seed=1)).eval()
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="run/v3 gives 4 responses"):
        log_probs_of(model, Sequences(random_rows(seed=6, num=4)), COMPUTE, name="run/v3")


def test_the_canary_is_a_plain_forward(tmp_path: Path) -> None:
    model = load(tiny_models.make_model(tmp_path / "model", seed=1), torch.float32)
    found = canary_log_probs(model, tiny_models.CANARY_SEQUENCES, COMPUTE.device)
    expected = tiny_models.direct_log_probs(tmp_path / "model", tiny_models.CANARY_SEQUENCES)
    assert [len(row) for row in found] == [len(sequence) - 1 for sequence in tiny_models.CANARY_SEQUENCES]
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-5)
