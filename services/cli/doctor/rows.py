"""The doctor's answer: a row for each thing that was looked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "missing", "optional"]

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Row:
    """One finding. `missing`: needed and not there; `optional`: not there, and not everybody needs it.

    `remedy` says how to get it, and is empty where all is well. Neither text holds a secret.
    """

    name: str
    found: str
    state: State = "ok"
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look. `redis_url` is None where `inpo up` would start a Redis of its own."""

    url: str
    store_dir: Path
    redis_url: str | None = None


def lacking(rows: Iterable[Row]) -> list[str]:
    """Names of what is needed and not there."""
    return [row.name for row in rows if row.state == "missing"]


def gib(num_bytes: float) -> str:
    """An amount of memory or disk."""
    return f"{num_bytes / GIB:.1f} GiB"
