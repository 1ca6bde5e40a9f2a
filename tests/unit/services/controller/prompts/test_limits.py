# pyarrow is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A small file takes little memory whatever it says, no more is read than is wanted, and what is refused says why."""

import gzip
import json
import tracemalloc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.controller.prompts import limits as limits_module
from services.controller.prompts.errors import InvalidSpecError
from services.controller.prompts.limits import PromptLimits
from services.controller.prompts.loading import gather, load_prompts
from services.controller.prompts.spool import SHOWN
from shared.contracts.spec import RunSpec
from tests.support.specs import a_spec

MIB = 1 << 20


@contextmanager
def at_most(mib: float) -> Generator[None]:
    """What the block holds at its peak, in Python and in Arrow."""
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mib * MIB
        assert pa.total_allocated_bytes() - before < mib * MIB
    finally:
        tracemalloc.stop()


def spec_of(folder: Path, file: Path, **source: Any) -> RunSpec:
    sets = [{"path": str(file), **source}]
    return a_spec(folder, prompts={"sets": sets}, evaluation={"num_prompts": 0})


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"prompt": text}).encode() + b"\n" for text in texts)


@pytest.mark.parametrize("name", ["bomb.jsonl", "bomb.jsonl.gz"])
def test_a_line_that_is_too_long_is_skipped_with_the_reason_and_never_held(tmp_path: Path, name: str) -> None:
    data = lines("before") + b'{"prompt": "' + b"a" * (32 * MIB) + b'"}\n' + lines("behind")
    file = tmp_path / name
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    del data
    with at_most(8.0):
        prompts, skipped = load_prompts(spec_of(tmp_path, file))
    assert [prompt.messages[0].content for prompt in prompts] == ["before", "behind"]
    assert [item.id for item in skipped] == [f"{name}:2"]
    assert "INPO_MAX_PROMPT_ROW_BYTES" in skipped[0].reason


@pytest.mark.parametrize("first", [lines("before"), b""])
def test_with_a_limit_no_more_is_read_than_that_needs(tmp_path: Path, first: bytes) -> None:
    """Behind the first row, or in it, is what would expand too far: it is never come by."""
    file = tmp_path / "bomb.jsonl.gz"
    file.write_bytes(gzip.compress(first + b'{"prompt": "' + b"a" * (32 * MIB) + b'"}\n' + b"not gzip at all"))
    limits = PromptLimits(ratio=1)
    if first:
        assert gather(spec_of(tmp_path, file, limit=1), limits).num_prompts == 1
    else:
        with pytest.raises(InvalidSpecError, match="longer than 1,048,576 bytes"):
            gather(spec_of(tmp_path, file, limit=1), limits)


def _gzip(folder: Path) -> Path:
    file = folder / "bomb.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"prompt": "' + b"a" * (8 * MIB) + b'"}\n'))
    return file


def _parquet(folder: Path) -> Path:
    file = folder / "bomb.parquet"
    table = pa.table({"prompt": ["a" * (8 * MIB)]})
    pq.write_table(table, file, compression="zstd", use_dictionary=False, write_statistics=False)
    return file


@pytest.mark.parametrize("made", [_gzip, _parquet])
def test_a_file_that_becomes_too_many_times_its_size_is_refused_naming_field_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[Path], Path]
) -> None:
    """8 MiB of one letter are some KiB: about a thousand to one."""
    monkeypatch.setattr(limits_module, "FREE_BYTES", MIB)
    file = made(tmp_path)
    with pytest.raises(InvalidSpecError, match=r"prompts\.sets\.0\.path: bomb.*INPO_MAX_PROMPT_RATIO") as refused:
        gather(spec_of(tmp_path, file), PromptLimits())
    assert refused.value.field == "prompts.sets.0.path"


def test_a_text_that_many_parquet_rows_and_turns_share_is_held_once(tmp_path: Path) -> None:
    """A quarter of a MiB, 128 times in a column and twice 128 times in conversations: 96 MiB if each were a copy."""
    text = "a" * (MIB // 4)
    turns = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    for name, column in (("texts", [text] * 128), ("turns", [turns] * 128)):
        file = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"prompt": column}), file)
        assert file.stat().st_size < MIB // 4
        with at_most(8.0):
            loaded = gather(spec_of(tmp_path, file), PromptLimits())
        assert (loaded.num_prompts, loaded.num_skipped) == (1, 127)


def test_a_parquet_row_is_as_long_as_all_its_texts(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a" * 600}, {"role": "assistant", "content": "b"}]
    file = tmp_path / "long.parquet"
    pq.write_table(pa.table({"prompt": [turns * 2, turns[:1], None]}), file)
    prompts, skipped = load_prompts(spec_of(tmp_path, file), PromptLimits(row_bytes=1000))
    assert [prompt.messages[0].content for prompt in prompts] == ["a" * 600]
    assert "longer than 1,000 bytes" in skipped[0].reason
    assert "none of the columns" in skipped[1].reason


def test_too_many_rows_are_refused_naming_limit_and_setting(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_bytes(lines(*(f"prompt {number}" for number in range(12))))
    assert gather(spec_of(tmp_path, file), PromptLimits(rows=12)).num_prompts == 12
    assert gather(spec_of(tmp_path, file, limit=11), PromptLimits(rows=11)).num_prompts == 11
    for source in ({}, {"limit": 12}):
        with pytest.raises(InvalidSpecError, match=r"more than 11 rows.*INPO_MAX_PROMPT_ROWS") as refused:
            gather(spec_of(tmp_path, file, **source), PromptLimits(rows=11))
        assert refused.value.field == "prompts.sets.0.limit"


def test_of_many_rows_that_are_left_out_the_first_are_shown_and_all_are_kept(tmp_path: Path) -> None:
    """More prompts and skipped rows than a batch holds; the held-out ones come last and are trained on nowhere."""
    file = tmp_path / "many.jsonl"
    file.write_bytes(lines(*(f"prompt {number % 9000}" for number in range(18_500))))
    spec = a_spec(tmp_path, prompts={"sets": [{"path": str(file)}]}, evaluation={"num_prompts": 20})
    loaded = gather(spec, PromptLimits())
    assert (loaded.num_prompts, loaded.num_skipped, len(loaded.first)) == (9000, 9500, SHOWN)
    prompts, skipped = load_prompts(spec)
    assert len(skipped) == 9500
    assert [prompt.split for prompt in prompts] == ["train"] * 8980 + ["held_out"] * 20
    assert len({prompt.prompt_id for prompt in prompts}) == 9000
