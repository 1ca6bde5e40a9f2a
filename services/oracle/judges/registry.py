"""Judges of this process: built once a specification, asked by one thread at a time, never asked the same twice."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from services.oracle.judge import Comparison, Judge, JudgeUnavailableError, Opinion
from shared.contracts.judges import JudgeSpec
from shared.contracts.rest.judging import JudgeIdentity

_log = structlog.get_logger(__name__)


class RememberingJudge:
    """A judge whose answers are kept by content, so that a retry asks only what failed.

    Failures are not kept. Asked by one thread at a time: a local model owns its device and its memory.
    """

    def __init__(self, judge: Judge, *, capacity: int) -> None:
        self._judge = judge
        self._identity = judge.identity()
        self._capacity = capacity
        self._known: OrderedDict[bytes, Opinion] = OrderedDict()
        self._lock = threading.Lock()

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return self._identity

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """See `Judge.compare`. Equal comparisons of a batch are asked once."""
        draws = self._identity.stochastic
        keys = [_content_key(comparison, draws=draws) for comparison in comparisons]
        with self._lock:
            asked = {key: comparison for key, comparison in zip(keys, comparisons, strict=True) if not self._has(key)}
            try:
                answers = self._judge.compare(list(asked.values())) if asked else []
            except JudgeUnavailableError as error:
                error.progress += len(comparisons) - len(asked)
                raise
            fresh = dict(zip(asked, answers, strict=True))
            opinions = [fresh[key] if key in fresh else self._known[key] for key in keys]
            self._keep(fresh)
        return opinions

    def _has(self, key: bytes) -> bool:
        if key not in self._known:
            return False
        self._known.move_to_end(key)
        return True

    def _keep(self, fresh: dict[bytes, Opinion]) -> None:
        self._known.update({key: opinion for key, opinion in fresh.items() if opinion.status != "error"})
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)


@dataclass(slots=True)
class _Building:
    """A judge's construction: who holds the lock builds, the others wait for it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    num_threads: int = 0


class JudgeRegistry:
    """The judges in use; the one unused for longest is forgotten when there are more than `max_judges`.

    `build` raises `JudgeBuildError`, which is not remembered: a path may be filled later. Nothing is kept of a
    specification either, which may be as large as a request, but its digest, and that only while its judge is.
    """

    def __init__(self, build: Callable[[JudgeSpec], Judge], *, max_judges: int = 4, capacity: int = 100_000) -> None:
        self._build = build
        self._max_judges = max_judges
        self._capacity = capacity
        self._judges: OrderedDict[str, Judge] = OrderedDict()
        self._building: dict[str, _Building] = {}
        self._lock = threading.Lock()

    def get(self, spec: JudgeSpec) -> Judge:
        """The judge of a specification, building it when it is new.

        Only those who want the same judge wait for its building: one that is far away and silent holds up no other.
        """
        key = _spec_key(spec)
        with self._turn(key):
            judge = self._used(key)
            if judge is None:
                judge = RememberingJudge(self._build(spec), capacity=self._capacity)
                _log.info("judge_built", **judge.identity().model_dump())
                self._add(key, judge)
            return judge

    def named(self, identity: str) -> Judge | None:
        """The loaded judge with this id; the newest where there are several."""
        with self._lock:
            return next((judge for judge in reversed(self._judges.values()) if judge.identity().id == identity), None)

    def forget(self, spec: JudgeSpec) -> None:
        """Build the judge anew when it is asked for next."""
        with self._lock:
            self._judges.pop(_spec_key(spec), None)

    @contextmanager
    def _turn(self, key: str) -> Generator[None]:
        """One thread at a time for a specification; the lock is forgotten by whoever is the last to leave it."""
        with self._lock:
            building = self._building.setdefault(key, _Building())
            building.num_threads += 1
        try:
            with building.lock:
                yield
        finally:
            with self._lock:
                building.num_threads -= 1
                if not building.num_threads:
                    del self._building[key]

    def _used(self, key: str) -> Judge | None:
        with self._lock:
            if key in self._judges:
                self._judges.move_to_end(key)
            return self._judges.get(key)

    def _add(self, key: str, judge: Judge) -> None:
        with self._lock:
            self._judges[key] = judge
            while len(self._judges) > self._max_judges:
                self._judges.popitem(last=False)

    def identities(self) -> list[JudgeIdentity]:
        """Who is loaded now."""
        with self._lock:
            return [judge.identity() for judge in self._judges.values()]


def _spec_key(spec: JudgeSpec) -> str:
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()


def _content_key(comparison: Comparison, *, draws: bool) -> bytes:
    turns = [[message.role, message.content] for message in comparison.prompt]
    text = json.dumps([turns, comparison.first, comparison.second, comparison.draw if draws else 0])
    return hashlib.sha256(text.encode()).digest()
