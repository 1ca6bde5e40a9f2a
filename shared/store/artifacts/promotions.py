"""What outsiders are served: numbered immutable objects, each made once, whoever else tries at the same moment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.contracts.weights import Promotion, WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import (
    ArtifactStore,
    CorruptArtifactError,
    MissingArtifactError,
    create_model,
    read_model,
)


class NothingPromotedError(LookupError):
    """No version is promoted, or none was before the present one; the message says which."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored. `newest` is the highest number, 0 without any; `in_force` its promotion, None if that is torn."""

    newest: int
    in_force: Promotion | None
    history: list[Promotion]
    problems: list[str]


def current(store: ArtifactStore) -> Promotion | None:
    """The promotion in force, None before the first; `CorruptArtifactError` when it is torn: no earlier one counts."""
    number = _newest(store)
    return read_model(store, layout.promotion(number), Promotion) if number else None


def found(store: ArtifactStore) -> Found:
    """All promotions and rollbacks that can be read, newest first; what is torn hides no other."""
    history: list[Promotion] = []
    problems: list[str] = []
    newest = _newest(store)
    for name in reversed(layout.in_order(store.list(layout.PROMOTIONS))):
        try:
            history.append(read_model(store, f"{layout.PROMOTIONS}/{name}", Promotion))
        except (CorruptArtifactError, MissingArtifactError) as error:
            problems.append(str(error))
    in_force = history[0] if history and history[0].number == newest else None
    return Found(newest, in_force, history, problems)


def history(store: ArtifactStore) -> list[Promotion]:
    """All promotions and rollbacks that can be read, newest first."""
    return found(store).history


def promote(store: ArtifactStore, version: WeightVersion, *, by: str, request: str | None = None) -> Promotion:
    """Make a version the promoted one. What is promoted already stays so, and nothing is written."""

    def follow(before: Found) -> Promotion:
        if before.in_force is not None and before.in_force.version == version:
            return before.in_force
        return Promotion(
            number=before.newest + 1,
            action="promote",
            version=version,
            at=datetime.now(UTC).isoformat(),
            by=by,
            previous=before.history[0].number if before.history else None,
            request=request,
        )

    return _append(store, follow, request)


def roll_back(store: ArtifactStore, *, by: str, request: str | None = None) -> Promotion:
    """Return to the promotion before the present one; the next rollback goes one further back.

    Where the present one cannot be read, to the newest that can. `NothingPromotedError` when there is none before.
    """

    def follow(before: Found) -> Promotion:
        target = _before(before)
        return Promotion(
            number=before.newest + 1,
            action="rollback",
            version=target.version,
            at=datetime.now(UTC).isoformat(),
            by=by,
            previous=target.previous,
            request=request,
        )

    return _append(store, follow, request)


def _before(found: Found) -> Promotion:
    """What a rollback returns to."""
    if found.newest == 0:
        raise NothingPromotedError("no version is promoted")
    if found.in_force is None and found.history:
        return found.history[0]
    wanted = found.in_force.previous if found.in_force is not None else None
    target = next((item for item in found.history if item.number == wanted), None)
    if target is None and wanted is not None:
        raise NothingPromotedError(f"promotion {wanted}, to which this one returns, cannot be read: promote a version")
    if target is None or found.in_force is None:
        what = found.in_force.version.name if found.in_force is not None else f"number {found.newest}, which is torn"
        raise NothingPromotedError(f"nothing was promoted before {what}")
    return target


def _append(store: ArtifactStore, follow: Callable[[Found], Promotion], request: str | None) -> Promotion:
    """What follows the newest promotion, decided anew whenever somebody else was faster; once for each request."""
    while True:
        before = found(store)
        made = next((item for item in before.history if item.request == request), None) if request else None
        if made is not None:
            return made
        following = follow(before)
        if following is before.in_force or create_model(store, layout.promotion(following.number), following):
            return following


def _newest(store: ArtifactStore) -> int:
    return max((number for name in store.list(layout.PROMOTIONS) if (number := layout.number_of(name))), default=0)
