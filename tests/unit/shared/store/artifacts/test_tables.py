# pyarrow and pandas-like readers ship no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Records as Parquet: the same back, equal bytes for equal records, and nothing foreign or broken gets in."""

import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from shared.contracts.records import Message, PreferencePair, Prompt, Rollout, Skipped, Verdict
from shared.store.artifacts import tables
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import CorruptArtifactError

QUESTION = [Message(role="user", content="Why?\n\x00 \U0001f600 \u200f")]
PAIR = PreferencePair(
    prompt_id="p",
    prompt=QUESTION,
    chosen="a",
    rejected="",
    prompt_ids=[1, 2],
    chosen_ids=[3],
    rejected_ids=[4, 5],
    chosen_log_prob=-0.1,
    rejected_log_prob=-1e-300,
    preference=1.0,
    probability=None,
    judge_revision="j",
    chosen_version=2,
    rejected_version=1,
)
RECORDS: list[BaseModel] = [
    Prompt(prompt_id="p", messages=[Message(role="system", content=""), *QUESTION], split="held_out", set=1),
    Rollout(
        prompt_id="p",
        prompt=QUESTION,
        prompt_ids=[1, 2],
        responses=["a", ""],
        response_ids=[[3, 4], [5]],
        log_probs=[[-0.1, -1 / 3], [-2.5]],
        finish_reasons=["stop", "length"],
        versions=[1, 1],
        digests=["d", "d"],
    ),
    Verdict(
        prompt_id="p",
        a=0,
        b=1,
        draw=0,
        status="error",
        judge="rules",
        judge_revision="1",
        latency_s=0.5,
        error="timed out",
    ),
    PAIR,
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_come_back_as_they_were(record: BaseModel) -> None:
    data = tables.encode(type(record), [record, record])
    assert tables.decode(type(record), data) == [record, record]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_equal_records_are_equal_bytes(record: BaseModel) -> None:
    assert tables.encode(type(record), [record]) == tables.encode(type(record), [record.model_copy(deep=True)])


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_field_of_a_record_is_a_column(record: BaseModel) -> None:
    assert tables.SCHEMAS[type(record)].names == list(type(record).model_fields)


def test_a_shard_without_records_is_a_table_too() -> None:
    assert tables.decode(PreferencePair, tables.encode(PreferencePair, [])) == []


def test_what_was_left_out_travels_with_the_table() -> None:
    store = MemoryStore()
    skipped = [Skipped(id="p9", reason="prompt has 2,000 tokens, max_prompt_tokens is 1,024")]
    assert tables.create_table(store, "pairs", PreferencePair, [PAIR], skipped)
    assert not tables.create_table(store, "pairs", PreferencePair, [])
    assert tables.read_table(store, "pairs", PreferencePair) == [PAIR]
    assert tables.read_skipped(store, "pairs", PreferencePair) == skipped
    assert tables.num_rows(store, "pairs") == 1


def test_a_table_needs_none_of_this_project_to_be_read() -> None:
    table = pq.read_table(io.BytesIO(tables.encode(PreferencePair, [PAIR])))
    assert table.column("prompt").to_pylist() == [[QUESTION[0].model_dump()]]
    assert table.column("chosen_ids").to_pylist() == [[3]]


def parquet(table: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def changed_column(name: str, values: list[Any]) -> bytes:
    table = pq.read_table(io.BytesIO(tables.encode(PreferencePair, [PAIR])))
    index = table.schema.names.index(name)
    return parquet(table.set_column(index, name, pa.array(values, type=table.schema.field(name).type)))


@pytest.mark.parametrize(
    "data",
    [
        parquet(pa.table({"prompt_id": ["p"]})),
        tables.encode(Prompt, []),
        b"",
        b"PAR1 and then something else",
        tables.encode(PreferencePair, [PAIR])[:-20],
        tables.encode(PreferencePair, [PAIR])[:100],
        changed_column("preference", [math.nan]),
        changed_column("chosen_log_prob", [-math.inf]),
        changed_column("preference", [1.5]),
        changed_column("chosen", [None]),
    ],
    ids=["columns", "record", "empty", "text", "tail", "head", "nan", "infinite", "range", "null"],
)
def test_a_table_that_is_not_one_of_these_records_is_refused_by_its_key(data: bytes) -> None:
    store = MemoryStore()
    store.create("pairs/00017.parquet", data)
    with pytest.raises(CorruptArtifactError, match=r"pairs/00017\.parquet"):
        tables.read_table(store, "pairs/00017.parquet", PreferencePair)


def test_a_flipped_bit_in_the_data_is_noticed() -> None:
    """The bits of the stored text sit in a page whose checksum the file carries."""
    pair = PAIR.model_copy(update={"chosen": "".join(chr(97 + number * 7 % 26) for number in range(500))})
    data = bytearray(tables.encode(PreferencePair, [pair]))
    start = 4
    flipped = 0
    for position in range(start, start + 400, 16):
        broken = bytearray(data)
        broken[position] ^= 0x10
        try:
            assert tables.decode(PreferencePair, bytes(broken)) == [pair]
        except CorruptArtifactError:
            flipped += 1
    assert flipped > 0
