"""The trainer's handler, found by the entry point that the settings name."""

from collections.abc import Callable
from typing import cast

from services.trainer.settings import TrainerSettings
from shared.runtime.entry_points import named
from shared.runtime.worker.loop import Handler
from shared.store.artifacts.store import ArtifactStore


def build_handler(settings: TrainerSettings, store: ArtifactStore) -> Handler:
    """The handler of `train` items; `ValueError` when the settings name none."""
    backend = named("trainer_backend", settings.trainer_backend)
    return cast(Callable[[ArtifactStore, TrainerSettings], Handler], backend)(store, settings)
