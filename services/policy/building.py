"""The parts of the service that settings name: found by entry point, so that torch is imported only when it is used."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from services.policy.completions import Completions, Limits
from services.policy.engine import Engine
from services.policy.gate import Gate
from services.policy.prompts import Tokenizer
from services.policy.settings import PolicySettings
from services.policy.worker import GenerateHandler
from shared.runtime.entry_points import named
from shared.store.artifacts import DirectoryStore


@dataclass(frozen=True, slots=True)
class Parts:
    """Runs and outsiders share one engine behind one gate."""

    handler: GenerateHandler
    completions: Completions


def build_parts(settings: PolicySettings, store: DirectoryStore) -> Parts:
    """What the service does, with the engine and tokenizer of the settings; `ValueError` for a wrong name."""
    engine = cast(Callable[[PolicySettings], Engine], named("engine", settings.engine))(settings)
    load_tokenizer = cast(Callable[[Path], Tokenizer], named("tokenizer", settings.tokenizer))
    gate = Gate(engine, lambda version: store.path(version.directory))
    limits = Limits(
        idle_s=settings.completion_idle_s,
        max_tokens=settings.completion_max_tokens,
        max_responses=settings.max_batch_rows,
    )
    handler = GenerateHandler(store, gate, load_tokenizer)
    return Parts(handler, Completions(store, gate, load_tokenizer, limits))


def build_handler(settings: PolicySettings, store: DirectoryStore) -> GenerateHandler:
    """The handler of `generate` items alone; see `build_parts`."""
    return build_parts(settings, store).handler
