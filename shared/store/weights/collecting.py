"""Weights and scratch of a run that nobody can need any more: what killed or refused trainers left behind.

A candidate that was never published is named by nothing. It goes when its step has its weights, which are another's;
before that only when it has not changed for a day, because whoever made it may be about to publish it.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.contracts.records import Commit, PublishedWeights
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.runs import intent_in_force
from shared.store.artifacts.store import DirectoryStore, read_model
from shared.store.weights.holding import is_held

SETTLED_GRACE_S = 600.0
GRACE_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A folder that may be garbage. `version` is the name without its token; `age_s` since its last change."""

    key: str
    version: str
    age_s: float
    held: bool


def garbage(candidates: Iterable[Leftover], published: Mapping[str, frozenset[str]]) -> list[str]:
    """Keys of the candidates that go; a pure function.

    `published` has, by version, the folders that records name. What a record names, and what a process holds, stays.
    """
    named = frozenset[str]().union(*published.values())
    return [
        found.key
        for found in candidates
        if found.key not in named
        and not found.held
        and found.age_s > (SETTLED_GRACE_S if found.version in published else GRACE_S)
    ]


def collect_run(store: DirectoryStore, run: str, *, now_s: float | None = None) -> list[str]:
    """Remove a run's garbage; the keys of what is gone.

    `ValueError` or `OSError`, with nothing removed, where a record of the run cannot be read: it may name anything.
    """
    names, scratch = store.list(layout.weights(run)), store.list(layout.scratch(run))
    if not scratch and len(names) <= len(_published_steps(store, run)):
        return []
    now = time.time() if now_s is None else now_s
    # In this order: whoever holds nothing now has published already, or never will.
    candidates = [_leftover(store, f"{layout.weights(run)}/{name}", now) for name in names]
    workspaces = [_leftover(store, f"{layout.scratch(run)}/{name}", now) for name in scratch]
    steps = {
        step: read_model(store, layout.published(step), PublishedWeights).version
        for step in _published_steps(store, run)
    }
    grace_s = GRACE_S if _cancelled(store, run) else float("inf")
    settled = {layout.workspace(run, step) for step in steps}
    gone = garbage(candidates, _by_version(store, run, steps.values()))
    gone += [found.key for found in workspaces if found.age_s > (SETTLED_GRACE_S if found.key in settled else grace_s)]
    for key in gone:
        store.remove(key)
    return gone


def _leftover(store: DirectoryStore, key: str, now_s: float) -> Leftover:
    path = store.path(key)
    held = is_held(path)
    return Leftover(key, path.name.rpartition("-")[0], now_s - _changed_s(path), held)


def _changed_s(path: Path) -> float:
    """When anything in a folder was written last."""
    try:
        return max(found.lstat().st_mtime for found in [path, *path.rglob("*")])
    except FileNotFoundError:  # somebody is at work in it
        return time.time()


def _published_steps(store: DirectoryStore, run: str) -> list[str]:
    """Every step that has its weights."""
    iterations = [f"{layout.iterations(run)}/{name}" for name in store.list(layout.iterations(run))]
    halves = [f"{folder}/{name}" for folder in iterations for name in store.list(folder) if name.startswith("half-")]
    return [step for step in (layout.base(run), *halves) if store.exists(layout.published(step))]


def _by_version(store: DirectoryStore, run: str, published: Iterable[WeightVersion]) -> dict[str, frozenset[str]]:
    commits = [f"{layout.iterations(run)}/{name}/commit.json" for name in store.list(layout.iterations(run))]
    committed = [read_model(store, key, Commit).weights for key in commits if store.exists(key)]
    found: dict[str, frozenset[str]] = {}
    for version in (*published, *committed):
        name = version.directory.rpartition("/")[2].rpartition("-")[0]
        found[name] = found.get(name, frozenset()) | {version.directory}
    return found


def _cancelled(store: DirectoryStore, run: str) -> bool:
    intent = intent_in_force(store, run)
    return intent is not None and intent.action == "cancel"
