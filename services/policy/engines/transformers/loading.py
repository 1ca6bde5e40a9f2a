# transformers' auto classes are untyped; what leaves this module is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Weight directories as models that are complete and finite, or not at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from services.policy.engine import SwapRefusedError
from shared.contracts.weights import WeightVersion

# A load that fails says so in its exception; the progress bar and the report would only repeat it on stderr.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with the version that it is, and what generation needs to know of it."""

    model: Any
    version: WeightVersion
    stop_ids: tuple[int, ...]
    pad_id: int
    vocab_size: int
    context: int | None


def load(directory: Path, version: WeightVersion, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """The directory's model in eval mode; `SwapRefusedError` when a tensor is missing, unknown, of another shape, NaN.

    transformers itself would fill what is missing with random numbers and go on.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(directory),
            dtype=dtype,
            output_loading_info=True,
            # Refused below, by name and with both shapes; transformers' own refusal names nothing.
            ignore_mismatched_sizes=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise SwapRefusedError(f"{version} cannot be loaded: {error}") from error
    model, info = loaded
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if info.get(problem):
            raise SwapRefusedError(f"{version}: {problem.replace('_', ' ')}: {_first(info[problem])}")
    _check_finite(model, version)
    return _described(model.to(device).eval(), version)


def _first(problems: Any) -> str:
    names = sorted(str(problem) for problem in problems)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_finite(model: Any, version: WeightVersion) -> None:
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise SwapRefusedError(f"{version}: tensor {name} holds NaN or infinity")


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
