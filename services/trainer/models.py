# transformers' auto classes are untyped; models are `Any` from here on.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Models of the trainer: loaded from verified directories, kept between iterations so that none starts cold."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from services.trainer.settings import TrainerSettings
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import DirectoryStore
from shared.store.weights import verify

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


class ModelError(ValueError):
    """A model that cannot be loaded, or is not what it should be."""


class Models:
    """The trained model and the frozen reference, by weight version."""

    def __init__(self, store: DirectoryStore, settings: TrainerSettings) -> None:
        self._store = store
        self._dtype = torch.float32 if settings.trainer_dtype == "float32" else torch.bfloat16
        self.device = _device(settings.device)
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        self._live: tuple[WeightVersion, Any] | None = None
        self._reference: tuple[WeightVersion, Any] | None = None

    def trainable(self, version: WeightVersion) -> Any:
        """The model to train, holding `version`; the one of the last iteration when it is that version already.

        It belongs to the caller: training changes it, so it is forgotten here until `keep` says what it became.
        """
        live, self._live = self._live, None
        model = live[1] if live is not None and live[0] == version else self._load(version)
        return model.requires_grad_(True)

    def keep(self, version: WeightVersion, model: Any) -> None:
        """The trained model is exactly `version` now."""
        self._live = (version, model)

    def frozen(self, version: WeightVersion) -> Any:
        """A model holding `version`, freshly read from its verified directory; the reference is kept."""
        if self._reference is not None and self._reference[0] == version:
            return self._reference[1]
        model = self._load(version).requires_grad_(False)
        if version.number == 0:
            self._reference = (version, model)
        return model

    def directory(self, version: WeightVersion) -> Path:
        """The version's directory."""
        return self._store.path(version.directory)

    def load_directory(self, directory: Path) -> Any:
        """A model from any directory, in the trainer's dtype; `ModelError` when it is missing or incomplete."""
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(directory), dtype=self._dtype, local_files_only=True, output_loading_info=True
            )
            model, info = loaded
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise ModelError(f"{directory} cannot be loaded as a causal language model: {error}") from error
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info.get(problem):
                names = ", ".join(sorted(map(str, info[problem]))[:3])
                raise ModelError(f"{directory}: {problem.replace('_', ' ')}: {names}")
        # Dropout off always: log pi_theta must be the policy's, or step 0 would not reproduce log pi_t.
        return model.to(self.device).eval()

    def _load(self, version: WeightVersion) -> Any:
        verify(self.directory(version), version)
        return self.load_directory(self.directory(version))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
