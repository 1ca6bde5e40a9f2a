# pyarrow ships no types; everything that leaves this module is typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false
"""Records as Parquet bytes with a fixed schema per record type, so that pandas and `datasets` read them without us."""

import io
import json
from collections.abc import Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from shared.contracts.records import CrossComparison, PreferencePair, Prompt, Rollout, Skipped, Verdict
from shared.store.artifacts.store import ArtifactStore, CorruptArtifactError, NewerArtifactError
from shared.store.artifacts.versions import VERSION

RecordT = TypeVar("RecordT", bound=BaseModel)

_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_IDS = pa.list_(pa.int32())
_MESSAGES = pa.list_(pa.struct([("role", _TEXT), ("content", _TEXT)]))
_SKIPPED = b"inpo.skipped"

SCHEMAS: dict[type[BaseModel], pa.Schema] = {
    Prompt: pa.schema([("prompt_id", _TEXT), ("messages", _MESSAGES), ("split", _TEXT), ("set", _INT)]),
    Rollout: pa.schema(
        [
            ("prompt_id", _TEXT),
            ("prompt", _MESSAGES),
            ("prompt_ids", _IDS),
            ("responses", pa.list_(_TEXT)),
            ("response_ids", pa.list_(_IDS)),
            ("log_probs", pa.list_(pa.list_(_FLOAT))),
            ("finish_reasons", pa.list_(_TEXT)),
            ("versions", pa.list_(_INT)),
            ("digests", pa.list_(_TEXT)),
            ("precision", _TEXT),
            ("effective_sample_size", _FLOAT),
        ]
    ),
    Verdict: pa.schema(
        [
            ("prompt_id", _TEXT),
            ("a", _INT),
            ("b", _INT),
            ("draw", _INT),
            ("status", _TEXT),
            ("probability", _FLOAT),
            ("probability_given", _FLOAT),
            ("probability_swapped", _FLOAT),
            ("answer", _FLOAT),
            ("judge", _TEXT),
            ("judge_revision", _TEXT),
            ("latency_s", _FLOAT),
            ("error", _TEXT),
        ]
    ),
    Skipped: pa.schema([("id", _TEXT), ("reason", _TEXT)]),
    CrossComparison: pa.schema(
        [("prompt_id", _TEXT), ("a", _INT), ("opponent", _INT), ("b", _INT), ("probability", _FLOAT)]
    ),
    PreferencePair: pa.schema(
        [
            ("prompt_id", _TEXT),
            ("prompt", _MESSAGES),
            ("chosen", _TEXT),
            ("rejected", _TEXT),
            ("prompt_ids", _IDS),
            ("chosen_ids", _IDS),
            ("rejected_ids", _IDS),
            ("chosen_log_prob", _FLOAT),
            ("rejected_log_prob", _FLOAT),
            ("preference", _FLOAT),
            ("probability", _FLOAT),
            ("judge_revision", _TEXT),
            ("chosen_version", _INT),
            ("rejected_version", _INT),
            ("chosen_win_rate", _FLOAT),
            ("rejected_win_rate", _FLOAT),
        ]
    ),
}


def encode(record_type: type[RecordT], records: Sequence[RecordT], skipped: Sequence[Skipped] = ()) -> bytes:
    """Parquet bytes, equal for equal records. What was left out travels in the file's metadata."""
    schema = SCHEMAS[record_type]
    listed = json.dumps([item.model_dump() for item in skipped]).encode()
    table = pa.Table.from_pylist([record.model_dump() for record in records], schema=schema)
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({_SKIPPED: listed}), sink, compression="zstd", write_page_checksum=True
    )
    return sink.getvalue()


def decode(record_type: type[RecordT], data: bytes, key: str = "table") -> list[RecordT]:
    """The records of Parquet bytes; `CorruptArtifactError` names the key when they are not such a table."""
    return _validated(record_type, _table(record_type, data, key).to_pylist(), key)


def decode_skipped(record_type: type[BaseModel], data: bytes, key: str = "table") -> list[Skipped]:
    """What was left out when the table was made."""
    return counted(record_type, data, key)[1]


def counted(record_type: type[BaseModel], data: bytes, key: str = "table") -> tuple[int, list[Skipped]]:
    """How many records Parquet bytes hold, and what was left out when the table was made."""
    footer = _opened(record_type, data, key).metadata
    rows: list[dict[str, Any]] = json.loads((footer.metadata or {}).get(_SKIPPED, b"[]"))
    return footer.num_rows, [Skipped.model_validate(row) for row in rows]


def create_table(
    store: ArtifactStore,
    key: str,
    record_type: type[RecordT],
    records: Sequence[RecordT],
    skipped: Sequence[Skipped] = (),
) -> bool:
    """Store records under a free key; False when the key is taken."""
    return store.create(key, encode(record_type, records, skipped))


def read_table(store: ArtifactStore, key: str, record_type: type[RecordT]) -> list[RecordT]:
    """The records under a key."""
    return decode(record_type, store.read(key), key)


def read_page(
    store: ArtifactStore, key: str, record_type: type[RecordT], offset: int, limit: int
) -> tuple[int, list[RecordT]]:
    """How many records the table under a key holds, and those from `offset` on; only their row groups are decoded."""
    file = _opened(record_type, store.read(key), key)
    start, found = 0, list[RecordT]()
    for number in range(file.metadata.num_row_groups):
        num = file.metadata.row_group(number).num_rows
        if start + num > offset and len(found) < limit:
            rows = _group(file, number, key).slice(max(0, offset - start), limit - len(found)).to_pylist()
            found += _validated(record_type, rows, key)
        start += num
    return start, found


def read_columns(
    store: ArtifactStore, key: str, record_type: type[BaseModel], columns: Sequence[str]
) -> list[tuple[Any, ...]]:
    """These columns of every record of the table under a key, in their order; the others are not decoded."""
    table = _read(_opened(record_type, store.read(key), key), key, list(columns))
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def distinct_values(store: ArtifactStore, key: str, record_type: type[BaseModel], column: str) -> set[Any]:
    """The different values of one column of the table under a key; the others are not read."""
    values = _read(_opened(record_type, store.read(key), key), key, [column]).column(column)
    return set(values.unique().to_pylist())


def num_rows(store: ArtifactStore, key: str) -> int:
    """How many records the table under a key holds."""
    try:
        return pq.read_metadata(io.BytesIO(store.read(key))).num_rows
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifactError(f"{key}: not a Parquet file: {error}") from error


def num_missing(record_type: type[BaseModel], column: str, data: bytes, key: str = "table") -> tuple[int, int]:
    """In how many of how many records a column is null; the others are not read."""
    values = _read(_opened(record_type, data, key), key, [column]).column(column)
    return values.null_count, len(values)


def read_skipped(store: ArtifactStore, key: str, record_type: type[BaseModel]) -> list[Skipped]:
    """What was left out when the table under a key was made."""
    return decode_skipped(record_type, store.read(key), key)


def _validated(record_type: type[RecordT], rows: list[Any], key: str) -> list[RecordT]:
    try:
        return [record_type.model_validate(row) for row in rows]
    except ValidationError as error:
        raise CorruptArtifactError(f"{key}: {error}") from error


def _group(file: Any, number: int, key: str) -> Any:
    try:
        return file.read_row_group(number, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifactError(f"{key}: not a Parquet file: {error}") from error


def _table(record_type: type[BaseModel], data: bytes, key: str) -> Any:
    return _read(_opened(record_type, data, key), key)


def _read(file: Any, key: str, columns: list[str] | None = None) -> Any:
    try:
        return file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifactError(f"{key}: not a Parquet file: {error}") from error


def _opened(record_type: type[BaseModel], data: bytes, key: str) -> Any:
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifactError(f"{key}: not a Parquet file: {error}") from error
    _check_schema(record_type, file.schema_arrow, key)
    return file


def _check_schema(record_type: type[BaseModel], schema: Any, key: str) -> None:
    known = SCHEMAS[record_type]
    if new := sorted(set(schema.names) - set(known.names)):
        columns = ", ".join(new)
        raise NewerArtifactError(f"{key} was written by another release, this is INPO {VERSION}; unknown: {columns}")
    if not schema.equals(known):
        raise CorruptArtifactError(f"{key}: schema is not that of {record_type.__name__}")
