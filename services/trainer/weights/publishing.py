# transformers' save_pretrained is untyped.
# pyright: reportUnknownMemberType=false
"""Trained weights as a new version: an ordinary Hugging Face directory with canary and manifest.

The first published version of a step wins, for ever: whoever comes second deletes its own and adopts the winner's.
"""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import GenerationConfig

from services.trainer.errors import NotFiniteError
from services.trainer.weights.canary_recording import CanaryStart
from shared.contracts.records import PublishedWeights
from shared.contracts.weights import Canary, WeightVersion
from shared.models.loading import non_finite
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, create_model, read_model
from shared.store.weights import manifests
from shared.store.weights.store import Candidate, weights_of

_COPIED = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken"})
_OURS = frozenset({manifests.MANIFEST, manifests.CANARY, "config.json"})
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def publish(
    store: ArtifactStore,
    run: str,
    number: int,
    model: nn.Module,
    parent: WeightVersion,
    start: CanaryStart,
    half: int | None = None,
) -> WeightVersion:
    """A complete candidate for version `number`: the parent's files, tensor names, dtypes and shapes, new values.

    `start` is its canary under the parent. With `half` it is no iterate but what that half-step makes on the way to it.

    The live model is rounded to what was written, so that it is the new version exactly. `NotFiniteError` before
    anything is written when a tensor holds NaN or infinity; `WeightsError` when the files would not match the parent's.
    """
    source = weights_of(store).local(parent)
    headers = manifests.tensor_headers(source)
    with rounded_to(model, _dtype_of(headers)):
        # After rounding: what is finite in 32 bits may overflow in 16.
        name = non_finite(model)
        if name is not None:
            raise NotFiniteError(f"tensor {name} holds NaN or infinity: these weights are not published")
        candidate = weights_of(store).begin(run, number, half)
        with whole_or_nothing(store, candidate):
            save(model, candidate.path, source)
    with whole_or_nothing(store, candidate):
        shutil.copyfile(source / "config.json", candidate.path / "config.json")
        manifests.check_headers(manifests.tensor_headers(candidate.path), headers)
        canary = start.after(model, next(model.parameters()).device)
        return finish(store, candidate, parent=parent.digest, model=model, canary=canary)


def announce(store: ArtifactStore, step: str, candidate: PublishedWeights) -> PublishedWeights:
    """The step's published weights: the candidate, or the winner's when somebody was faster."""
    key, weights = layout.published(step), weights_of(store)
    if not store.exists(f"{candidate.version.directory}/{manifests.MANIFEST}"):
        raise manifests.WeightsError(f"{candidate.version} was removed before it was published")
    try:
        if create_model(store, key, candidate):
            return candidate
        winner = read_model(store, key, PublishedWeights)
        if winner.version.directory != candidate.version.directory:
            weights.remove(candidate.version)
        return winner
    except OSError:
        # The record may have been made all the same; what it does not name would be in the way of the next try.
        if not store.exists(key):
            weights.remove(candidate.version)
        raise
    finally:
        weights.settled(candidate.version)


@contextmanager
def whole_or_nothing(store: ArtifactStore, candidate: Candidate) -> Generator[None]:
    """A candidate that is not finished in the block is not left behind, least of all on a full disk."""
    try:
        yield
    except BaseException:
        weights_of(store).discard(candidate)
        raise


def save(model: nn.Module, path: Path, source: Path) -> None:
    """Safetensors and configuration of the model; tokenizer files and generation config are the source's."""
    saved = cast(Any, model)
    if (source / "generation_config.json").exists():
        # Copied below as it is; transformers refuses to write some that models are shipped with.
        saved.generation_config = GenerationConfig()
    saved.save_pretrained(path)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in _COPIED and file.name not in _OURS and ".index." not in file.name:
            shutil.copyfile(file, path / file.name)


def finish(
    store: ArtifactStore, candidate: Candidate, *, parent: str | None, model: nn.Module, canary: Canary
) -> WeightVersion:
    """Canary, durable files, then the manifest that makes the folder a version. The model is known to be finite."""
    path = candidate.path
    (path / manifests.CANARY).write_text(canary.model_dump_json())
    for file in [*sorted(path.iterdir()), path]:
        _fsync(file)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return weights_of(store).finish(candidate, parent=parent, num_parameters=num_parameters)


@contextmanager
def rounded_to(model: nn.Module, dtype: torch.dtype) -> Generator[None]:
    """Parameters in the dtype that they are stored in, inside the block; back in float32, rounded, after it."""
    _cast(model, dtype)
    try:
        yield
    finally:
        _cast(model, torch.float32)


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    # Parameters only: `model.to` would round the rotary frequencies too, which no file restores.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _dtype_of(headers: dict[str, manifests.TensorHeader]) -> torch.dtype:
    dtypes = {header.dtype for header in headers.values()}
    found = [_DTYPES[name] for name in sorted(dtypes) if name in _DTYPES]
    if len(found) != 1 or len(dtypes) != 1:
        raise manifests.WeightsError(f"tensors must be all of one dtype of {', '.join(_DTYPES)}, not {sorted(dtypes)}")
    return found[0]


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
