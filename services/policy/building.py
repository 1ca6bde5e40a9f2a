"""The parts of the worker that settings name: found by entry point, so that torch is imported only when it is used."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from services.policy.engine import Engine
from services.policy.gate import Gate
from services.policy.prompts import Tokenizer
from services.policy.settings import PolicySettings
from services.policy.worker import GenerateHandler
from shared.runtime.entry_points import named
from shared.store.artifacts import DirectoryStore


def build_handler(settings: PolicySettings, store: DirectoryStore) -> GenerateHandler:
    """The handler of `generate` items, with the engine and tokenizer of the settings; `ValueError` for a wrong name."""
    engine = cast(Callable[[PolicySettings], Engine], named("engine", settings.engine))(settings)
    load_tokenizer = cast(Callable[[Path], Tokenizer], named("tokenizer", settings.tokenizer))
    gate = Gate(engine, lambda version: store.path(version.directory))
    return GenerateHandler(store, gate, load_tokenizer)
