# transformers' auto classes are untyped; what leaves this module is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Weight directories as models that are complete and finite, or not at all."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from shared.store.weights.manifests import WeightsError

# A load that fails says so in its exception; the progress bar and the report would only repeat it on stderr.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

NUM_NAMES_SHOWN = 3


def load(directory: Path, dtype: torch.dtype | str) -> nn.Module:
    """The directory's model in eval mode (no dropout), `"auto"` meaning the dtype that it is stored in.

    `WeightsError` when it cannot be read, or a tensor is missing, unknown, of another shape, NaN or infinite:
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
        raise WeightsError(f"{directory} cannot be loaded: {error}") from error
    model, info = loaded
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if info.get(problem):
            raise WeightsError(f"{directory}: {problem.replace('_', ' ')}: {_first(info[problem])}")
    name = non_finite(model)
    if name is not None:
        raise WeightsError(f"{directory}: tensor {name} holds NaN or infinity")
    return cast(nn.Module, model.eval())


def non_finite(model: nn.Module) -> str | None:
    """The name of a tensor that holds NaN or infinity; None when there is none."""
    state: dict[str, torch.Tensor] = model.state_dict()
    return next((name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())), None)


def _first(problems: Iterable[Any]) -> str:
    names = sorted(str(problem) for problem in problems)
    more = f" and {len(names) - NUM_NAMES_SHOWN} more" if len(names) > NUM_NAMES_SHOWN else ""
    return f"{', '.join(names[:NUM_NAMES_SHOWN])}{more}"
