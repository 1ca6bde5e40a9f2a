# transformers' models are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Log-probabilities of stored responses under a model: the trainer's own forward, the reference for all others."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from services.trainer.sequences import Padded, Row, by_length, pad
from shared.inpo.objective import response_log_probs, token_log_probs


def row_log_probs(model: Any, padded: Padded) -> Tensor:
    """The log pi(response | prompt) of each row [N], summed over response tokens in fp32; with gradient if enabled."""
    longest = padded.targets.shape[1]
    logits = model(
        input_ids=padded.input_ids,
        attention_mask=padded.attention_mask,
        position_ids=padded.position_ids,
        use_cache=False,
        logits_to_keep=longest + 1,
    ).logits
    return response_log_probs(logits[:, :-1], padded.targets, padded.response_mask)


def frozen_log_probs(model: Any, rows: Sequence[Row], batch_size: int, device: torch.device) -> Tensor:
    """The log pi of every row [N], without gradient, on the CPU in the order of `rows`."""
    result = torch.empty(len(rows), dtype=torch.float32)
    with torch.inference_mode():
        for batch in by_length(rows, batch_size):
            result[batch] = row_log_probs(model, pad([rows[index] for index in batch], device)).cpu()
    return result


def sequence_token_log_probs(model: Any, sequences: Sequence[Sequence[int]], device: torch.device) -> list[list[float]]:
    """The log pi of every token after the first; the sequences have one length."""
    ids = torch.tensor(sequences, device=device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits
        scores: list[list[float]] = token_log_probs(logits[:, :-1], ids[:, 1:]).tolist()
    return scores
