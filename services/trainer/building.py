"""The trainer's handler, found by the entry point that the settings name."""

import importlib
from collections.abc import Callable
from typing import cast

from services.trainer.settings import TrainerSettings
from shared.runtime.worker import Handler
from shared.store.artifacts import DirectoryStore


def build_handler(settings: TrainerSettings, store: DirectoryStore) -> Handler:
    """The handler of `train` items; `ValueError` when the settings name none."""
    module, _, attribute = settings.trainer_backend.partition(":")
    try:
        backend = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"trainer_backend: {settings.trainer_backend!r} is not an importable `module:callable`: {error}"
        ) from error
    return cast(Callable[[DirectoryStore, TrainerSettings], Handler], backend)(store, settings)
