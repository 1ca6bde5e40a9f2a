"""Storage that refuses: which errors say that a disk is full, read-only or failing, whoever raised them.

No work is to blame for those, and they pass: workers wait, the API answers 507 or 503, and both say why.
"""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["full", "read-only", "failing"]

_KINDS: dict[int, Kind] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "read-only",
    errno.EIO: "failing",
    errno.ESTALE: "failing",
}
# Of the store these say that it is read-only for us; elsewhere they may be about a file that is none of ours.
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_REMEDIES: dict[Kind, str] = {
    "full": "make room there",
    "read-only": "make it writable for the services' user",
    "failing": "look at the disk and at the system's log",
}
# Libraries that write by themselves keep the system's number in their text: safetensors, and what is written in Rust.
_IN_TEXT = re.compile(r"\(os error (\d+)\)|\bcode: (\d+)|\[Errno (\d+)\]")
# torch loses it. Its writer fails when the file below it does, and for no other reason.
_TORCH_WRITER = re.compile(r"PytorchStreamWriter failed|inline_container\.cc.*unexpected pos|basic_ios::clear")
_LIBRARIES = frozenset({"SafetensorError", "RuntimeError"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the storage says no with: the system's number, and what it was about, for people."""

    kind: Kind
    errno: int
    reason: str

    @property
    def remedy(self) -> str:
        """What whoever runs the system has to do; the work then goes on by itself."""
        return _REMEDIES[self.kind]

    def __str__(self) -> str:
        return f"the storage is {self.kind}: {self.reason}; {self.remedy}, and the work goes on by itself"


def refusal(error: BaseException, store: Path | None = None) -> Refusal | None:
    """Why storage refused, where that is the cause of an error; None where it is not.

    A forbidden access counts below the folder `store`, and everywhere when that is not given.
    """
    for cause in _causes(error):
        found = _of_system(cause, store) if isinstance(cause, OSError) else _of_library(cause)
        if found is not None:
            return found
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised for. Only libraries hide a cause in what they handled meanwhile."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        hidden = cause.__context__ if type(cause).__name__ in _LIBRARIES else None
        cause = cause.__cause__ or hidden


def _of_system(error: OSError, store: Path | None) -> Refusal | None:
    kind = _KINDS.get(error.errno or 0)
    if kind is None and error.errno in _FORBIDDEN and _concerns(error, store):
        kind = "read-only"
    return None if kind is None else Refusal(kind, error.errno or 0, _told(error))


def _concerns(error: OSError, store: Path | None) -> bool:
    return store is None or any(
        Path(_text(name)).is_relative_to(store) for name in (error.filename, error.filename2) if name is not None
    )


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def _told(error: OSError) -> str:
    what = error.strerror or os.strerror(error.errno or 0)
    return what if error.filename is None else f"{what}: {_text(error.filename)}"


def _of_library(error: BaseException) -> Refusal | None:
    if type(error).__name__ not in _LIBRARIES:
        return None
    text = str(error)
    for numbers in _IN_TEXT.findall(text):
        number = int(next(filter(None, numbers)))
        if number in _KINDS:
            return Refusal(_KINDS[number], number, os.strerror(number))
    if os.strerror(errno.ENOSPC) in text:
        return Refusal("full", errno.ENOSPC, os.strerror(errno.ENOSPC))
    if _TORCH_WRITER.search(text):
        return Refusal("failing", errno.EIO, "torch could not write a file, and does not say why")
    return None
