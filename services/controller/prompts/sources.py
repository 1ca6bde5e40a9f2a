# pyarrow and huggingface_hub are only partly typed; rows leave this module as plain values.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Where the rows of a prompt set come from: JSONL, Parquet, or a hub dataset of such files."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import pyarrow as pa
import pyarrow.parquet as pq

from services.controller.prompts.errors import InvalidSpecError
from shared.contracts.spec import PromptSource

_LFS = b"version https://git-lfs.github.com/spec/"

Row = tuple[str, dict[str, Any] | str]  # where it stands, and its columns or why it cannot be read


def rows_in(source: PromptSource, field: str) -> Iterator[Row]:
    """The set's rows in their order, at most `limit`; `InvalidSpecError` for what cannot be had or read."""
    num = 0
    for path in _files(source, field):
        rows = _parquet_rows(path, field) if path.suffix == ".parquet" else _json_rows(path, field)
        for row in rows:
            if source.limit is not None and num >= source.limit:
                return
            num += 1
            yield row


def _files(source: PromptSource, field: str) -> list[Path]:
    if source.hub is not None:
        return _hub_files(source.hub, source.revision, field)
    path = Path(source.path or "").expanduser()
    if not _is_file(path):
        raise InvalidSpecError(f"{field}.path", f"{path} is not a file")
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        raise InvalidSpecError(f"{field}.path", f"{path.name} is none of .jsonl, .jsonl.gz, .parquet")
    return [path]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system takes
        return False


def _hub_files(hub: str, revision: str | None, field: str) -> list[Path]:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only runs with hub prompts need it)

    try:
        folder = snapshot_download(
            hub, repo_type="dataset", revision=revision, allow_patterns=["*.parquet", "*.jsonl", "*.jsonl.gz"]
        )
    except (OSError, ValueError) as error:
        raise InvalidSpecError(f"{field}.hub", f"cannot get {hub}: {error}") from error
    files = sorted(path for path in Path(folder).rglob("*") if path.name.endswith((".parquet", ".jsonl", ".jsonl.gz")))
    if not files:
        raise InvalidSpecError(f"{field}.hub", f"{hub} holds no Parquet or JSONL file")
    return files


def _parquet_rows(path: Path, field: str) -> Iterable[Row]:
    try:
        table = pq.read_table(path)
        rows = cast(list[dict[str, Any]], table.to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InvalidSpecError(f"{field}.path", f"{path.name} is not a readable Parquet file: {error}") from None
    return ((f"{path.name}:row {number}", row) for number, row in enumerate(rows, 1))


def _json_rows(path: Path, field: str) -> Iterator[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1 and line.startswith(_LFS):
                    raise InvalidSpecError(f"{field}.path", f"{path.name} is a Git LFS pointer; fetch it: git lfs pull")
                if line.strip():
                    yield f"{path.name}:{number}", _json_row(line)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidSpecError(f"{field}.path", f"{path.name} cannot be read: {error}") from error


def _json_row(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
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
