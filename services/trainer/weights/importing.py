# huggingface_hub is only partly typed.
# pyright: reportUnknownVariableType=false
"""The run's model becomes weight version 0: complete, finite, in safetensors, with a canary of its own."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn

from services.trainer.errors import ModelImportError
from services.trainer.forward.log_probs import canary_log_probs, vocab_size_of
from services.trainer.weights.models import load
from services.trainer.weights.publishing import finish, save
from shared.contracts.spec import ModelSpec
from shared.contracts.weights import Canary, WeightVersion
from shared.inpo.seeds import seed_of
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights import directories

NUM_CANARY_SEQUENCES = 4
NUM_CANARY_TOKENS = 24
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]


def import_model(store: DirectoryStore, run: str, model: ModelSpec, device: torch.device) -> WeightVersion:
    """A candidate for version 0; `ModelImportError` names what is wrong with `model.path`."""
    directory = _directory(model)
    try:
        loaded = load(directory, "auto")
    except directories.WeightsError as error:
        raise ModelImportError(f"model.path: {error}") from error
    key, path = directories.begin(store, run, 0)
    save(loaded, path, directory)
    sequences = canary_sequences(loaded)
    written = load(path, torch.float32).to(device)
    log_probs = canary_log_probs(written, sequences, device)
    canary = Canary(sequences=sequences, log_probs=log_probs, parent_log_probs=log_probs)
    return finish(store, run, key, number=0, parent=None, model=written, canary=canary)


def canary_sequences(model: nn.Module) -> list[list[int]]:
    """A few fixed sequences over the vocabulary: the same for every model of that vocabulary size."""
    config: Any = model.config
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    length = min(NUM_CANARY_TOKENS, context) if isinstance(context, int) and context > 1 else NUM_CANARY_TOKENS
    draws = np.random.Generator(np.random.Philox(key=seed_of("canary")))
    tokens = draws.integers(0, vocab_size_of(model), size=(NUM_CANARY_SEQUENCES, length))
    return [[int(token) for token in row] for row in tokens]


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
