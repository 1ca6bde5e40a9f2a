# transformers' models are only partly typed.
# pyright: reportUnknownMemberType=false
"""Weights as an ordinary Hugging Face directory with canary and manifest: whole and finite, or not at all."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.trainer.log_probs import sequence_token_log_probs
from shared.contracts.records import PublishedWeights, Skipped
from shared.contracts.weights import Canary
from shared.inpo.seeds import seed_of
from shared.runtime.telemetry import span
from shared.store import layout
from shared.store.artifacts import DirectoryStore, create_model, read_model
from shared.store.weights import CANARY, begin, finish

NUM_CANARIES = 4
CANARY_TOKENS = 24
COMPANIONS = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")
TEMPLATES = ("chat_template*", "generation_config.json")


class NotFiniteError(ArithmeticError):
    """A tensor holds NaN or infinity; nothing is published."""


def canary_sequences(model: Any) -> list[list[int]]:
    """Fixed token sequences within the model's vocabulary and context; the same for all versions of a model."""
    config = model.config.get_text_config()
    length = min(CANARY_TOKENS, getattr(config, "max_position_embeddings", CANARY_TOKENS) or CANARY_TOKENS)
    rng = np.random.Generator(np.random.Philox(key=seed_of("canary", config.vocab_size)))
    return [[int(token) for token in row] for row in rng.integers(0, config.vocab_size, (NUM_CANARIES, length))]


def canary_log_probs(model: Any, device: torch.device) -> list[list[float]]:
    """The model's log-probs of the canary's tokens."""
    return sequence_token_log_probs(model, canary_sequences(model), device)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Weights to publish as version `number` of a run.

    `source` is the directory whose tokenizer and chat template go along; `parent` the digest of the version that
    training started from, with its log-probs of the canary (None for an imported base model).
    """

    run: str
    number: int
    model: Any
    source: Path
    parent: str | None = None
    parent_log_probs: list[list[float]] | None = None
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    skipped: list[Skipped] = field(default_factory=list[Skipped])


def publish(store: DirectoryStore, step: str, candidate: Candidate, device: torch.device) -> PublishedWeights:
    """Write the candidate and name it the step's result; who loses that race adopts the winner's.

    `NotFiniteError` names a broken tensor.
    """
    model, run, number = candidate.model, candidate.run, candidate.number
    with span("publish", run=run, number=number):
        _check_finite(model)
        key, path = begin(store, run, number)
        model.save_pretrained(str(path))
        _copy_companions(candidate.source, path)
        log_probs = canary_log_probs(model, device)
        before = candidate.parent_log_probs or log_probs
        canary = Canary(sequences=canary_sequences(model), log_probs=log_probs, parent_log_probs=before)
        (path / CANARY).write_text(canary.model_dump_json())
        _sync(path)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        version = finish(store, run, key, number=number, parent=candidate.parent, num_parameters=num_parameters)
        result = PublishedWeights(version=version, metrics=candidate.metrics, skipped=candidate.skipped)
        return _elect(store, step, path, result)


def published(store: DirectoryStore, step: str) -> PublishedWeights | None:
    """The step's result, None when it has none yet."""
    key = layout.published(step)
    return read_model(store, key, PublishedWeights) if store.exists(key) else None


def _elect(store: DirectoryStore, step: str, path: Path, candidate: PublishedWeights) -> PublishedWeights:
    if create_model(store, layout.published(step), candidate):
        return candidate
    shutil.rmtree(path)
    return read_model(store, layout.published(step), PublishedWeights)


def _check_finite(model: Any) -> None:
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise NotFiniteError(f"tensor {name} holds NaN or infinity")


def _copy_companions(source: Path, path: Path) -> None:
    for pattern in (*COMPANIONS, *TEMPLATES):
        for file in source.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, path / file.name)


def _sync(path: Path) -> None:
    for file in path.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
