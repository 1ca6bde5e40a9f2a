"""What an iteration left out, counted by reason."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from shared.contracts.records import PreferencePair, PublishedWeights, Rollout, Skipped
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, read_model
from shared.store.artifacts.tables import read_skipped

IDENTICAL = "identical responses"

_DETAIL = re.compile(r"\s*(\([^)]*\)|:.*)", re.DOTALL)
_NUMBER = re.compile(r"\d[\d,.]*")


def skipped_of(store: ArtifactStore, steps: Iterable[str]) -> Iterator[Skipped]:
    """What these half-steps left out: over-long prompts, identical responses, lost comparisons, over-long pairs.

    No more is read than is asked for.
    """
    for step in steps:
        for name in layout.in_order(store.list(f"{step}/rollouts")):
            yield from read_skipped(store, f"{step}/rollouts/{name}", Rollout)
        for name in layout.in_order(store.list(f"{step}/pairs")):
            yield from read_skipped(store, f"{step}/pairs/{name}", PreferencePair)
        yield from read_model(store, layout.published(step), PublishedWeights).skipped


def by_reason(skipped: Iterable[Skipped]) -> dict[str, int]:
    """How often each reason occurs, the most frequent first; numbers and what is in brackets do not tell reasons apart.

    `identical responses (0 and 3)` counts as `identical responses`, `over-long: 90 tokens, limit 64` as `over-long`.
    """
    counts = Counter(_kind(item.reason) for item in skipped)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def identical_share(dropped: dict[str, int], num_pairs: int) -> float:
    """Share of pairs of one response with itself, of those and the pairs that were kept."""
    identical = dropped.get(IDENTICAL, 0)
    return identical / (identical + num_pairs) if identical else 0.0


def _kind(reason: str) -> str:
    return _NUMBER.sub("N", _DETAIL.sub("", reason)).strip() or reason
