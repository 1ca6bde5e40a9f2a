"""The rows of JSON Lines, read no further than they are asked for and never more than a row at a time."""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from services.controller.prompts.errors import InvalidSpecError
from services.controller.prompts.limits import PromptLimits

Row = tuple[str, dict[str, Any] | str]
"""Where it stands, and its columns or why it cannot be read."""

_LFS = b"version https://git-lfs.github.com/spec/"
_CHUNK = 1 << 16


def json_rows(path: Path, field: str, limits: PromptLimits) -> Iterator[Row]:
    """The file's rows in their order; one that is too long is a reason. `InvalidSpecError` for what cannot be read."""
    name = path.name
    try:
        with path.open("rb", buffering=0) as file, _stream(file, path, field, limits) as stream:
            for number, line in enumerate(_lines(stream, limits.row_bytes), 1):
                if line is None:
                    yield f"{name}:{number}", limits.too_long()
                elif number == 1 and line.startswith(_LFS):
                    raise InvalidSpecError(f"{field}.path", f"{name} is a Git LFS pointer; fetch it: git lfs pull")
                elif line.strip():
                    yield f"{name}:{number}", _json_row(line)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidSpecError(f"{field}.path", f"{name} cannot be read: {error}") from error


def _stream(file: io.FileIO, path: Path, field: str, limits: PromptLimits) -> io.BufferedReader:
    return io.BufferedReader(
        _Expanded(file, path.name, field, limits) if path.suffix == ".gz" else file, buffer_size=_CHUNK
    )


def _lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Line by line, None for one that is too long. What is left of that is read only when another is wanted."""
    while line := file.readline(max_bytes + 1):
        if len(line) <= max_bytes:
            yield line
            continue
        yield None
        while line and not line.endswith(b"\n"):
            line = file.readline(_CHUNK)


class _Expanded(io.RawIOBase):
    """What a gzip file holds, as long as it does not become too many times its own size."""

    def __init__(self, file: io.FileIO, name: str, field: str, limits: PromptLimits) -> None:
        self._file = file
        self._name = name
        self._field = field
        self._limits = limits
        self._expanded = gzip.GzipFile(fileobj=file)
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._expanded.read(min(len(buffer), _CHUNK))
        self._num_bytes += len(data)
        refused = self._limits.expands(self._name, self._file.tell(), self._num_bytes)
        if refused is not None:
            raise InvalidSpecError(f"{self._field}.path", refused)
        buffer[: len(data)] = data
        return len(data)


def _json_row(line: bytes) -> dict[str, Any] | str:
    try:
        row = _DECODER.decode(line.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError:
        return "not UTF-8"
    except RecursionError:
        return "nested too deeply"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except _NotJsonError as error:
        return f"not JSON: {error}"
    except ValueError:  # Python's own limit on the digits of an integer
        return "holds a number of too many digits"
    return cast(dict[str, Any], row) if isinstance(row, dict) else f"not a JSON object but {type(row).__name__}"


class _NotJsonError(ValueError):
    """Something that Python's parser takes for JSON."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NotJsonError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # made once: making it takes as long as reading a row
