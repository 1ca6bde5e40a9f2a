# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""Log-probs of whole responses, log pi(y|x): sums over response tokens, in fp32.

Shapes: B sequences in a batch, T tokens, R response tokens, V vocabulary, M sequences in all.
"""

import inspect
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.trainer.errors import NotFiniteError
from services.trainer.forward.sequences import Batch, Rows, Sequences
from services.trainer.ranks import ALONE, Ranks
from shared.contracts.weights import Precision
from shared.inpo.objective import response_log_probs, token_log_probs

LogProbs = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and in which precision a forward runs, and which ranks share the work; weights are float32 always."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    ranks: Ranks = ALONE

    @property
    def precision(self) -> Precision:
        """What a forward computes in, by name."""
        return "bfloat16" if self.dtype == torch.bfloat16 else "float32"

    def autocast(self) -> torch.autocast:
        """The precision of forwards; nothing changes in float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)


def batch_log_probs(model: nn.Module, batch: Batch, compute: Compute) -> Tensor:
    """The log pi of each response of the batch [B], with gradient unless the caller switched it off."""
    num_kept = batch.targets.shape[1] + 1
    arguments: dict[str, Any] = {"input_ids": batch.ids, "attention_mask": batch.attention_mask, "use_cache": False}
    accepted = _parameters(type(bare(model)))
    if "position_ids" in accepted:
        arguments["position_ids"] = batch.position_ids
    if "logits_to_keep" in accepted:
        arguments["logits_to_keep"] = num_kept
    with compute.autocast():
        logits: Tensor = model(**arguments).logits
    return response_log_probs(logits[:, -num_kept:-1], batch.targets, batch.target_mask)


def log_probs_of(
    model: nn.Module, sequences: Sequences, compute: Compute, *, name: str, rows: Rows | None = None
) -> LogProbs:
    """The log pi of each response [M], or of those in `rows`, without gradients; the ranks share the forwards.

    `NotFiniteError`, with the policy's `name`, when one is not finite.
    """
    wanted = np.arange(len(sequences)) if rows is None else rows
    found = np.zeros(len(sequences), dtype=np.float32)
    groups = list(sequences.by_length(wanted, vocab_size_of(model)))
    with torch.no_grad():
        for group, mine in compute.ranks.share(groups):
            log_probs = batch_log_probs(model, sequences.batch(group, compute.device), compute)
            if mine:
                found[group] = cast(NDArray[np.float32], log_probs.cpu().numpy())
    # Every response was computed by one rank and is 0 on the others: the sum is exact.
    found = cast(NDArray[np.float32], compute.ranks.sum(torch.from_numpy(found)).numpy())[wanted]
    if not np.isfinite(found).all():
        num = int((~np.isfinite(found)).sum())
        raise NotFiniteError(f"{name} gives {num} responses a log-prob that is not finite")
    return found


def canary_log_probs(
    model: nn.Module, sequences: list[list[int]], device: torch.device, starts: list[int] | None = None
) -> list[list[float]]:
    """The log pi of every token from its sequence's start on, in full float32, one unpadded forward a sequence.

    Without `starts`, of every token after the first.
    """
    rows: list[list[float]] = []
    with torch.no_grad():
        for sequence, start in zip(sequences, starts or [1] * len(sequences), strict=True):
            ids = torch.tensor([sequence], device=device)
            logits: Tensor = model(input_ids=ids, use_cache=False).logits[:, start - 1 : -1]
            rows.append(cast(list[float], token_log_probs(logits, ids[:, start:])[0].tolist()))
    return rows


def vocab_size_of(model: nn.Module) -> int:
    """Size of the vocabulary in the model's configuration."""
    config: Any = bare(model).config
    return int(config.get_text_config().vocab_size)


def bare(model: nn.Module) -> nn.Module:
    """The model itself, without the engine that it may be wrapped in."""
    inner = getattr(model, "module", None)
    return inner if isinstance(inner, nn.Module) else model


@lru_cache
def _parameters(model_class: type[nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(model_class.forward).parameters)
