"""The prompts of a run: read once at creation, held-out ones marked, everything left out is listed with a reason."""

import hashlib
import heapq
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.controller.prompts.errors import InvalidSpecError
from services.controller.prompts.limits import PromptLimits
from services.controller.prompts.messages import NotAPromptError, checked, messages_of, named
from services.controller.prompts.seen import Seen
from services.controller.prompts.sources import rows_in
from services.controller.prompts.spool import PromptSpool, SkippedSpool
from shared.contracts.records import Message, Prompt, Skipped
from shared.contracts.spec import PromptSource, RunSpec
from shared.inpo.seeds import seed_of
from shared.store.artifacts.tables import decode

_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Loaded:
    """The prompts of a run as the bytes of their table; `skipped` is the table of what was left out, `first` of it."""

    num_prompts: int
    prompts: bytes
    num_skipped: int
    skipped: bytes
    first: list[Skipped]


def load_prompts(spec: RunSpec, limits: PromptLimits | None = None) -> tuple[list[Prompt], list[Skipped]]:
    """As `gather`, for those who look at each: all prompts of a run, and all that was left out."""
    loaded = gather(spec, limits or PromptLimits())
    return decode(Prompt, loaded.prompts), decode(Skipped, loaded.skipped)


def gather(spec: RunSpec, limits: PromptLimits, folder: Path | None = None) -> Loaded:
    """All prompts of a run, held-out ones marked and last, and what was left out.

    Without a set of their own, the held-out prompts are taken from the first training set and from no training set
    again. Raises `InvalidSpecError` for a source that is missing, unreadable, too large, or leaves too few prompts.
    On the way they lie in a file in `folder`, which nobody sees; memory holds what tells one from another.
    """
    with _Gathering.begun(spec, limits, folder) as gathering:
        return gathering.loaded()


class _Gathering:
    """One run's prompts while they are read."""

    def __init__(self, spec: RunSpec, limits: PromptLimits, spool: PromptSpool) -> None:
        self._spec = spec
        self._limits = limits
        self._spool = spool
        self._skipped = SkippedSpool()
        self._nums: list[int] = []
        own = spec.evaluation.prompts is not None
        self._lowest = _Lowest(0 if own else spec.evaluation.num_prompts)

    @classmethod
    @contextmanager
    def begun(cls, spec: RunSpec, limits: PromptLimits, folder: Path | None) -> Generator["_Gathering"]:
        spool = PromptSpool(folder)
        try:
            yield cls(spec, limits, spool)
        finally:
            spool.close()

    def loaded(self) -> Loaded:
        """Every set in turn, then the held-out prompts."""
        seen = Seen()
        for index, source in enumerate(self._spec.prompts.sets):
            self._nums.append(self._read_set(source, f"prompts.sets.{index}", index, seen))
        held_out = self._held_out()
        self._check_enough()
        prompts = self._spool.table(held_out)
        return Loaded(len(self._spool), prompts, self._skipped.num, self._skipped.table(), self._skipped.first)

    def _held_out(self) -> list[int]:
        """Rows of the spool."""
        wanted = self._spec.evaluation.num_prompts
        if wanted == 0:
            return []
        if self._spec.evaluation.prompts is not None:
            start = len(self._spool)
            self._read_set(self._spec.evaluation.prompts, "evaluation.prompts", 0, Seen(), wanted)
            return list(range(start, len(self._spool)))
        if self._nums[0] <= wanted:
            raise InvalidSpecError(
                "evaluation.num_prompts",
                f"{wanted} of {self._nums[0]} prompts would leave none to train on; lower it or give "
                "evaluation.prompts",
            )
        self._nums[0] -= wanted
        return self._lowest.rows()

    def _check_enough(self) -> None:
        for index, num in enumerate(self._nums):
            wanted = self._spec.prompts.num_per_iteration or 1
            if num < wanted:
                raise InvalidSpecError(
                    f"prompts.sets.{index}", f"holds {num} usable training prompts, an iteration needs {wanted}"
                )

    def _read_set(self, source: PromptSource, field: str, index: int, seen: Seen, most: int | None = None) -> int:
        """How many usable prompts the set has, of which at most `most` are kept; `seen` is of those before, too."""
        num, before = 0, self._skipped.num
        last: list[str] = []
        for where, row in rows_in(source, field, self._limits):
            found = _prompt(source, row)
            if not isinstance(found, str):
                identity, messages, content = found
                known = seen.known(where, content, identity if source.id_column is not None else None)
                if known is None:
                    if most is None or num < most:
                        self._keep(identity, messages, index)
                    num += 1
                    continue
                found = f"duplicate of {known}"
            self._skipped.add(where, found[:_REASON_CHARACTERS])
            last = [*last[-2:], f"{where}: {found[:_REASON_CHARACTERS]}"]
        if not num:
            reasons = "; ".join(last) if self._skipped.num > before else "the source is empty"
            raise InvalidSpecError(field, f"no usable prompt ({reasons})")
        return num

    def _keep(self, identity: str, messages: list[Message], index: int) -> None:
        if index == 0 and self._lowest.wanted:
            self._lowest.add(seed_of("held out", self._spec.seed, identity), len(self._spool))
        self._spool.add(identity, messages, index)


class _Lowest:
    """The rows with the lowest seeds, so many as are wanted."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self._highest_first: list[tuple[int, int]] = []

    def add(self, seed: int, row: int) -> None:
        entry = (-seed, -row)
        if len(self._highest_first) < self.wanted:
            heapq.heappush(self._highest_first, entry)
        elif entry > self._highest_first[0]:
            heapq.heapreplace(self._highest_first, entry)

    def rows(self) -> list[int]:
        """In the order of their seeds."""
        return [-row for _, row in sorted(self._highest_first, reverse=True)]


def _prompt(source: PromptSource, row: dict[str, Any] | str) -> tuple[str, list[Message], bytes] | str:
    """Its id, its messages and the digest of their content; or why it is none."""
    if isinstance(row, str):
        return row
    try:
        messages = messages_of(row, source)
        content = _content(messages)
        identity = content.hex() if source.id_column is None else _identity(row, source.id_column)
    except NotAPromptError as error:
        return f"not a prompt: {error}"
    return identity, messages, content


def _identity(row: dict[str, Any], column: str) -> str:
    if column not in row:
        raise NotAPromptError(f"no column {column!r} for its id; it has {sorted(row)}")
    value = row[column]
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise NotAPromptError(f"its id is {named(value)}, not text or a number")
    if value == "":
        raise NotAPromptError("its id is empty")
    return checked(str(value))


def _content(messages: list[Message]) -> bytes:
    text = "\x1e".join(f"{message.role}\x1f{message.content}" for message in messages)
    return hashlib.sha256(text.encode()).digest()[:8]
