"""How much of an iteration nobody works: pure functions of the spans that the services log."""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORK = frozenset({"generate", "judge", "log_probs", "train", "score"})
OVERHEAD = ("publish", "swap", "plan", "commit")

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Span:
    """One logged span: seconds since the epoch, all services on one clock."""

    name: str
    start_s: float
    end_s: float
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """One iteration: its wall time, the idle part of it, and what the idle part was spent on.

    `without_evaluation_s` is the idle part when work on evaluations, which fills gaps, does not count as work.
    """

    iteration: int
    wall_s: float
    idle_s: float
    items: dict[str, float]
    without_evaluation_s: float

    @property
    def share(self) -> float:
        """Idle time as a share of the iteration."""
        return self.idle_s / self.wall_s


def read_spans(logs: Path, run: str) -> list[Span]:
    """The spans of a run from the services' log files."""
    spans: list[Span] = []
    for file in sorted(logs.glob("*.log")):
        for line in file.read_text(errors="replace").splitlines():
            if '"span"' not in line:
                continue
            entry: dict[str, Any] = json.loads(line)
            if entry.get("event") == "span" and _belongs(entry, run):
                spans.append(Span(entry["name"], entry["start_s"], entry["end_s"], entry))
    return sorted(spans, key=lambda span: span.start_s)


def _belongs(entry: dict[str, Any], run: str) -> bool:
    """Spans of the engine name a weight version, `run/v3@digest`, all others their run."""
    return entry.get("run") == run or str(entry.get("version", "")).startswith(f"{run}/")


def windows(spans: Sequence[Span]) -> list[Window]:
    """An iteration lasts from the end of the commit before it to the end of its own."""
    commits = [span for span in spans if span.name == "commit"]
    return [
        _window(spans, int(after.fields["iteration"]), (before.end_s, after.end_s))
        for before, after in itertools.pairwise(commits)
    ]


def _window(spans: Sequence[Span], iteration: int, bounds: Interval) -> Window:
    work = [span for span in spans if span.name in WORK]
    idle = _idle(work, bounds)
    idle_s = length(idle)
    items: dict[str, float] = {}
    for name in OVERHEAD:
        covered = merge(_clip(((span.start_s, span.end_s) for span in spans if span.name == name), bounds))
        items[name] = sum(length(_clip(covered, gap)) for gap in idle)
    items["queue and waiting"] = max(0.0, idle_s - sum(items.values()))
    own = [span for span in work if span.name != "score" and "/evaluations/" not in span.fields.get("step", "")]
    return Window(iteration, bounds[1] - bounds[0], idle_s, items, length(_idle(own, bounds)))


def _idle(work: Iterable[Span], bounds: Interval) -> list[Interval]:
    return _gaps(merge(_clip(((span.start_s, span.end_s) for span in work), bounds)), bounds)


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The union as disjoint intervals in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def length(intervals: Iterable[Interval]) -> float:
    """Total length of disjoint intervals."""
    return sum(end - start for start, end in intervals)


def _clip(intervals: Iterable[Interval], bounds: Interval) -> list[Interval]:
    clipped = ((max(start, bounds[0]), min(end, bounds[1])) for start, end in intervals)
    return [(start, end) for start, end in clipped if start < end]


def _gaps(busy: Sequence[Interval], bounds: Interval) -> list[Interval]:
    edges = [bounds[0], *(edge for interval in busy for edge in interval), bounds[1]]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]
