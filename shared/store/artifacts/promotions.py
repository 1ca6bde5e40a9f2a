"""What outsiders are served: numbered immutable objects, each made once, whoever else tries at the same moment."""

from collections.abc import Callable
from datetime import UTC, datetime

from shared.contracts.weights import Promotion, WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, create_model, read_model


class NothingPromotedError(LookupError):
    """No version is promoted, or none was before the present one; the message says which."""


def current(store: ArtifactStore) -> Promotion | None:
    """The promotion in force, None before the first."""
    number = _newest(store)
    return read_model(store, layout.promotion(number), Promotion) if number else None


def history(store: ArtifactStore) -> list[Promotion]:
    """All promotions and rollbacks, newest first."""
    return [read_model(store, layout.promotion(number), Promotion) for number in range(_newest(store), 0, -1)]


def promote(store: ArtifactStore, version: WeightVersion, *, by: str, request: str | None = None) -> Promotion:
    """Make a version the promoted one. What is promoted already stays so, and nothing is written."""

    def follow(last: Promotion | None) -> Promotion:
        if last is not None and last.version == version:
            return last
        return Promotion(
            number=last.number + 1 if last is not None else 1,
            action="promote",
            version=version,
            at=datetime.now(UTC).isoformat(),
            by=by,
            previous=last.number if last is not None else None,
            request=request,
        )

    return _append(store, follow, request)


def roll_back(store: ArtifactStore, *, by: str, request: str | None = None) -> Promotion:
    """Return to the promotion before the present one; the next rollback goes one further back.

    `NothingPromotedError` when there is none before.
    """

    def follow(last: Promotion | None) -> Promotion:
        if last is None:
            raise NothingPromotedError("no version is promoted")
        if last.previous is None:
            raise NothingPromotedError(f"nothing was promoted before {last.version.name}")
        target = read_model(store, layout.promotion(last.previous), Promotion)
        return Promotion(
            number=last.number + 1,
            action="rollback",
            version=target.version,
            at=datetime.now(UTC).isoformat(),
            by=by,
            previous=target.previous,
            request=request,
        )

    return _append(store, follow, request)


def _append(store: ArtifactStore, follow: Callable[[Promotion | None], Promotion], request: str | None) -> Promotion:
    """What follows the newest promotion, decided anew whenever somebody else was faster; once for each request."""
    while True:
        made = next((item for item in history(store) if item.request == request), None) if request else None
        if made is not None:
            return made
        last = current(store)
        following = follow(last)
        if following == last or create_model(store, layout.promotion(following.number), following):
            return following


def _newest(store: ArtifactStore) -> int:
    return max((int(name.removesuffix(".json")) for name in store.list(layout.PROMOTIONS)), default=0)
