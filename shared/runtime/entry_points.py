"""Parts that settings name as `module:callable`, so that what nobody names is never imported."""

import importlib
from collections.abc import Callable
from typing import Any


def named(setting: str, name: str) -> Callable[..., Any]:
    """The callable; `ValueError` with the setting's name when it cannot be imported, or is none."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{setting}: {name!r} is not an importable `module:callable`: {error}") from error
    if not callable(found):
        raise ValueError(f"{setting}: {name!r} is not callable")
    return found
