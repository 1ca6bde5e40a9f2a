"""Where and in which precision the trainer computes, as its settings say."""

import torch

from services.trainer.settings import TrainerSettings


def dtype_of(settings: TrainerSettings) -> torch.dtype:
    """What forward and backward compute in."""
    return torch.bfloat16 if settings.trainer_dtype == "bfloat16" else torch.float32


def device_named(name: str) -> torch.device:
    """The device of the setting `trainer_device`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
