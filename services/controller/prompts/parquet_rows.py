# pyarrow is only partly typed; rows leave this module as plain values.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
"""The rows of a Parquet file, a batch at a time; a text that many rows share is held once."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from services.controller.prompts.errors import InvalidSpecError
from services.controller.prompts.json_rows import Row
from services.controller.prompts.limits import PromptLimits

_BATCH_ROWS = 1024
_TEXTS = frozenset(["UTF8", "NONE", "JSON", "ENUM"])


def parquet_rows(path: Path, field: str, wanted: Collection[str], limits: PromptLimits) -> Iterator[Row]:
    """The file's rows in their order, with the columns `wanted`; the others are named and not read.

    One that is too long is a reason. `InvalidSpecError` for what cannot be read.
    """
    try:
        name = path.name
        file = _opened(path)
        names = file.schema_arrow.names
        read = [name for name in names if name in wanted]
        _check_groups(file.metadata, read, name, field, limits)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=read, use_threads=False):
            columns = [_values(column) for column in batch.columns]
            for index in range(batch.num_rows):
                number += 1
                row = dict.fromkeys(names) | {key: column[index] for key, column in zip(read, columns, strict=True)}
                too_long = _size(row) > limits.row_bytes
                yield f"{name}:row {number}", limits.too_long() if too_long else row
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, InvalidSpecError):
            raise
        raise InvalidSpecError(f"{field}.path", f"{path.name} is not a readable Parquet file: {error}") from None


def _opened(path: Path) -> Any:
    """Texts are read as what they are in the file: a dictionary, and who uses which of its entries."""
    schema = pq.ParquetFile(path).metadata.schema
    leaves = [schema.column(index) for index in range(len(schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.converted_type in _TEXTS]
    return pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False)


def _check_groups(metadata: Any, read: list[str], name: str, field: str, limits: PromptLimits) -> None:
    """What the columns of each row group become, before any of it is read."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(index) for index in range(group.num_columns)]
        chunks = [chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] in read]
        compressed = sum(chunk.total_compressed_size for chunk in chunks)
        refused = limits.expands(
            f"{name}, row group {number}", compressed, sum(chunk.total_uncompressed_size for chunk in chunks)
        )
        if refused is not None:
            raise InvalidSpecError(f"{field}.path", refused)


def _values(array: Any) -> list[Any]:
    """As `to_pylist`, but equal texts are one object."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        used = array.indices.drop_null().unique()
        texts = dict(zip(used.to_pylist(), array.dictionary.take(used).to_pylist(), strict=True))
        return [texts.get(index) for index in array.indices.to_pylist()]
    if pa.types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        rows = zip(*(_values(column) for column in array.flatten()), strict=True) if names else ((),) * len(array)
        valid = array.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, valid, strict=True)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        flat = iter(_values(array.flatten()))
        lengths = array.value_lengths().to_pylist()
        return [None if length is None else [next(flat) for _ in range(length)] for length in lengths]
    return array.to_pylist()


def _size(value: Any) -> int:
    """Bytes that a row's texts have at least, each as often as it occurs."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(part) for part in cast(dict[str, Any], value).values())
    return sum(_size(part) for part in cast(list[Any], value)) if isinstance(value, list) else 0
