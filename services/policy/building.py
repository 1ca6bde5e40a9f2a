"""The parts of the worker that settings name: found by entry point, so that torch is imported only when it is used."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from services.policy.engine import Engine
from services.policy.gate import Gate
from services.policy.prompts import Tokenizer
from services.policy.settings import PolicySettings
from services.policy.worker import GenerateHandler
from shared.store.artifacts import DirectoryStore


def build_handler(settings: PolicySettings, store: DirectoryStore) -> GenerateHandler:
    """The handler of `generate` items, with the engine and tokenizer of the settings; `ValueError` for a wrong name."""
    engine = cast(Callable[[PolicySettings], Engine], _named("engine", settings.engine))(settings)
    load_tokenizer = cast(Callable[[Path], Tokenizer], _named("tokenizer", settings.tokenizer))
    gate = Gate(engine, lambda version: store.path(version.directory))
    return GenerateHandler(store, gate, load_tokenizer)


def _named(field: str, name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{field}: {name!r} is not an importable `module:callable`: {error}") from error
    if not callable(found):
        raise ValueError(f"{field}: {name!r} is not callable")
    return found
