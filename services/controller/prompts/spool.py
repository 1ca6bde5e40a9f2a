# pyarrow ships no types; everything that leaves this module is typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Prompts and what is left out, on their way from their files to the tables of a run: on disk, not in memory."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.contracts.records import Message, Prompt, Skipped
from shared.store.artifacts.tables import SCHEMAS

_ROWS = 8192  # a batch here, a row group of the tables
SHOWN = 100
"""So much of what is left out is shown without being asked for."""


class PromptSpool:
    """Prompts in a file that nobody else sees, in the order in which they were added."""

    def __init__(self, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by `close`)
        self._schema = pa.schema([SCHEMAS[Prompt].field(name) for name in ("prompt_id", "messages", "set")])
        self._writer = pa.ipc.new_stream(self._file, self._schema)
        self._num = 0
        self._begin()

    def __len__(self) -> int:
        return self._num

    def add(self, prompt_id: str, messages: Sequence[Message], index: int) -> None:
        """One more, of the training set `index`."""
        self._ids.append(prompt_id)
        self._sets.append(index)
        for message in messages:
            self._roles.append(message.role)
            self._contents.append(message.content)
        self._ends.append(len(self._roles))
        self._num += 1
        if len(self._ids) == _ROWS:
            self._flush()

    def table(self, held_out: Sequence[int]) -> bytes:
        """`prompts.parquet`: those to train on in their order, then those held out in the order of `held_out`."""
        self._flush()
        self._writer.close()
        self._file.seek(0)
        places = {row: place for place, row in enumerate(held_out)}
        kept: list[Any] = []
        order: list[int] = []
        sink, start = io.BytesIO(), 0
        with _writer(sink, SCHEMAS[Prompt]) as writer:
            for batch in pa.ipc.open_stream(self._file):
                here = [row - start for row in range(start, start + batch.num_rows) if row in places]
                order += [places[start + row] for row in here]
                table = pa.Table.from_batches([batch])
                if here:
                    kept.append(table.take(here))
                    gone = set(here)
                    table = table.take([row for row in range(batch.num_rows) if row not in gone])
                writer.write_table(_split(table, "train"))
                start += batch.num_rows
            if kept:
                by_place = sorted(range(len(order)), key=order.__getitem__)
                writer.write_table(_split(pa.concat_tables(kept).take(by_place), "held_out"))
        return sink.getvalue()

    def close(self) -> None:
        """Nothing is left of the file."""
        self._file.close()

    def _begin(self) -> None:
        self._ids: list[str] = []
        self._sets: list[int] = []
        self._roles: list[str] = []
        self._contents: list[str] = []
        self._ends: list[int] = [0]

    def _flush(self) -> None:
        if not self._ids:
            return
        turns = pa.StructArray.from_arrays(
            [pa.array(self._roles, pa.string()), pa.array(self._contents, pa.string())], ["role", "content"]
        )
        messages = pa.ListArray.from_arrays(pa.array(self._ends, pa.int32()), turns)
        columns = [pa.array(self._ids, pa.string()), messages, pa.array(self._sets, pa.int64())]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._begin()


class SkippedSpool:
    """What is left out: the first in plain, all of it as the bytes of a table."""

    def __init__(self) -> None:
        self.first: list[Skipped] = []
        self.num = 0
        self._sink = io.BytesIO()
        self._writer = _writer(self._sink, SCHEMAS[Skipped])
        self._rows: list[dict[str, str]] = []

    def add(self, where: str, reason: str) -> None:
        """One row more."""
        self.num += 1
        if self.num <= SHOWN:
            self.first.append(Skipped(id=where, reason=reason))
        self._rows.append({"id": where, "reason": reason})
        if len(self._rows) == _ROWS:
            self._flush()

    def table(self) -> bytes:
        """`skipped.parquet`."""
        self._flush()
        self._writer.close()
        return self._sink.getvalue()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMAS[Skipped]))
        self._rows = []


def _split(table: Any, split: str) -> Any:
    names = SCHEMAS[Prompt].names
    split_column = pa.array([split] * table.num_rows, pa.string())
    return table.append_column("split", split_column).select(names).cast(SCHEMAS[Prompt])


def _writer(sink: io.BytesIO, schema: Any) -> Any:
    return pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True)
