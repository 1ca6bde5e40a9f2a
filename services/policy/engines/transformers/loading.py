# transformers' auto classes are untyped; what leaves this module is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Weight directories as models that generation can use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from services.policy.engine import SwapRefusedError
from shared.contracts.weights import WeightVersion
from shared.models.loading import load
from shared.store.weights.manifests import WeightsError


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with the version that it is, and what generation needs to know of it."""

    model: Any
    version: WeightVersion
    stop_ids: tuple[int, ...]
    pad_id: int
    vocab_size: int
    context: int | None


def loaded(directory: Path, version: WeightVersion, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """The directory's model in eval mode; `SwapRefusedError` for what must not be loaded."""
    try:
        model: Any = load(directory, dtype)
    except WeightsError as error:
        raise SwapRefusedError(f"{version}: {error}") from error
    return _described(model.to(device), version)


def _described(model: Any, version: WeightVersion) -> LoadedModel:
    config = model.config.get_text_config()
    stop_ids = _stop_ids(getattr(model.generation_config, "eos_token_id", None), getattr(config, "eos_token_id", None))
    # A shipped generation config may hold a repetition penalty or forced tokens: they would change the policy.
    model.generation_config = GenerationConfig()
    pad_id = getattr(config, "pad_token_id", None)
    context = getattr(config, "max_position_embeddings", None)
    return LoadedModel(
        model=model,
        version=version,
        stop_ids=stop_ids,
        pad_id=pad_id if isinstance(pad_id, int) and pad_id >= 0 else 0,
        vocab_size=int(config.vocab_size),
        context=context if isinstance(context, int) else None,
    )


def _stop_ids(*declared: int | list[int] | None) -> tuple[int, ...]:
    ids: set[int] = set()
    for ends in declared:
        ids.update([ends] if isinstance(ends, int) else ends or [])
    return tuple(sorted(ids))
