# huggingface_hub is only partly typed.
# pyright: reportUnknownVariableType=false
"""The run's model becomes weight version 0: complete, finite, in safetensors, with a canary of its own."""

import re
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from services.trainer.errors import ModelImportError
from services.trainer.forward.log_probs import canary_log_probs
from services.trainer.weights.canary_recording import sampled_sequences
from services.trainer.weights.publishing import finish, save, whole_or_nothing
from shared.contracts.spec import ModelSpec
from shared.contracts.weights import Canary, WeightVersion
from shared.models.loading import load
from shared.store.artifacts.store import ArtifactStore
from shared.store.weights import manifests
from shared.store.weights.store import weights_of

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]


def import_model(store: ArtifactStore, run: str, model: ModelSpec, device: torch.device) -> WeightVersion:
    """A candidate for version 0; `ModelImportError` names what is wrong with `model.path`."""
    directory = _directory(model)
    try:
        loaded = load(directory, "auto")
    except manifests.WeightsError as error:
        raise ModelImportError(f"model.path: {error}") from error
    candidate = weights_of(store).begin(run, 0)
    with whole_or_nothing(store, candidate):
        save(loaded, candidate.path, directory)
        written = load(candidate.path, torch.float32).to(device)
        sequences = sampled_sequences(written)
        log_probs = canary_log_probs(written, sequences, device)
        canary = Canary(sequences=sequences, log_probs=log_probs, parent_log_probs=log_probs)
        return finish(store, candidate, parent=None, model=written, canary=canary)


def _directory(model: ModelSpec) -> Path:
    path = Path(model.path).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelImportError(f"model.path: {path} has no config.json: it is not a Hugging Face model directory")
        return path
    if not _HUB_ID.fullmatch(model.path):
        raise ModelImportError(
            f"model.path: {model.path!r} is neither a directory on the trainer's machine nor a hub id"
        )
    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelImportError(
            f"model.path: {model.path!r} is no directory here, and the hub does not give it: {error}"
        ) from error
