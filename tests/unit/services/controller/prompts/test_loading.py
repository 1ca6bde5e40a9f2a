# pyarrow is only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""Reading prompts: everything usable is read, everything else is listed."""

import gzip
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.controller.prompts.errors import InvalidSpecError
from services.controller.prompts.loading import load_prompts
from shared.contracts.records import Message
from tests.support.data import outside_data
from tests.support.specs import a_spec


def _set(path: Path, **source: object) -> dict[str, object]:
    return {"sets": [{"path": str(path), **source}]}


def test_held_out_prompts_are_never_trained_on(tmp_path: Path) -> None:
    prompts, skipped = load_prompts(a_spec(tmp_path))
    train = {prompt.prompt_id for prompt in prompts if prompt.split == "train"}
    held_out = {prompt.prompt_id for prompt in prompts if prompt.split == "held_out"}
    assert (len(train), len(held_out), len(train & held_out), skipped) == (8, 4, 0, [])


def test_duplicates_empty_texts_and_broken_lines_are_listed_with_their_place(tmp_path: Path) -> None:
    """Of nine rows the first, the emoji one and the conversation are usable."""
    file = tmp_path / "mixed.jsonl"
    rows = [
        b'{"prompt": "a?"}',
        b'{"prompt": "a?"}',
        b'{"prompt": "  "}',
        b'{"prompt": NaN}',
        b'{"prompt": "\\ud800"}',
        b'{"other": 1}',
        b"\xff\xfe",
        '{"prompt": "🙂"}'.encode(),
        b'{"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}, '
        b'{"role": "user", "content": "s"}]}',
    ]
    file.write_bytes(b"\n".join(rows))
    spec = a_spec(tmp_path, prompts={**_set(file), "num_per_iteration": 1}, evaluation={"num_prompts": 1})
    prompts, skipped = load_prompts(spec)
    assert len(prompts) == 3
    assert [item.id for item in skipped] == [f"mixed.jsonl:{line}" for line in (2, 3, 4, 5, 6, 7)]
    assert skipped[0].reason == "duplicate of mixed.jsonl:1"
    assert "lone surrogates" in skipped[3].reason
    assert "it has ['other']: name one of them by `column`" in skipped[4].reason


def test_a_system_prompt_and_a_column_are_mapped(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["hello", "world"], "key": [11, 12]}), file)
    source = _set(file, column="text", id_column="key", system="Be brief.")
    prompts, _ = load_prompts(a_spec(tmp_path, prompts=source, evaluation={"num_prompts": 0}))
    assert [prompt.prompt_id for prompt in prompts] == ["11", "12"]
    assert prompts[0].messages == [
        Message(role="system", content="Be brief."),
        Message(role="user", content="hello"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "the source is empty"),
        ("pointer.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("cut.jsonl.gz", gzip.compress(b'{"prompt": "x"}\n' * 999)[:-20], "cannot be read"),
        ("not.parquet", b"PAR1 no", "not a readable Parquet file"),
        ("prompts.txt", b"hello", "none of .jsonl, .jsonl.gz, .parquet"),
        ("all-broken.jsonl", b"{]\n", "not JSON"),
        ("corrupt.jsonl.gz", gzip.compress(b"x" * 99, mtime=0)[:14] + b"\xff" * 40, "cannot be read"),
    ],
    ids=["empty", "lfs-pointer", "cut-gzip", "not-parquet", "unknown-type", "all-broken", "corrupt-gzip"],
)
def test_an_unusable_file_is_an_error_that_names_the_field(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidSpecError, match=message) as caught:
        load_prompts(a_spec(tmp_path, prompts=_set(file)))
    assert caught.value.field.startswith("prompts.sets.0")


def test_holding_out_everything_is_an_error_that_says_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match=r"evaluation\.num_prompts: 12 of 12 prompts would leave none"):
        load_prompts(a_spec(tmp_path, evaluation={"num_prompts": 12}))


def test_duplicate_and_missing_ids_are_listed_and_so_are_duplicates_across_sets(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    rows = ['{"id": "x", "prompt": "a"}', '{"id": "x", "prompt": "b"}', '{"id": null, "prompt": "c"}']
    first.write_text("\n".join([*rows, '{"id": "\\ud800", "prompt": "d"}', '{"id": 5, "prompt": "e\\udc00"}']))
    second.write_text('{"id": 1, "prompt": "a"}\n{"id": 2, "prompt": "z"}')
    sets = [{"path": str(file), "id_column": "id"} for file in (first, second)]
    spec = a_spec(tmp_path, prompts={"sets": sets}, iterations=2, evaluation={"num_prompts": 0})
    prompts, skipped = load_prompts(spec)
    assert [(prompt.prompt_id, prompt.set) for prompt in prompts] == [("x", 0), ("2", 1)]
    assert [item.id for item in skipped] == [*(f"first.jsonl:{line}" for line in (2, 3, 4, 5)), "second.jsonl:1"]
    assert [skipped[0].reason, skipped[4].reason] == ["duplicate of first.jsonl:1"] * 2
    assert "its id is null" in skipped[1].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt" 1}', "not JSON: Expecting ':' delimiter at character 11"),
        (b'{"prompt": Infinity}', "not JSON: Infinity is no number"),
        (b'{"prompt": 1' + b"0" * 5000 + b"}", "holds a number of too many digits"),
        (b"[1]", "not a JSON object but list"),
    ],
    ids=["syntax", "infinity", "digits", "list"],
)
def test_a_line_that_cannot_be_read_says_what_is_wrong_with_it(tmp_path: Path, line: bytes, reason: str) -> None:
    file = tmp_path / "one.jsonl"
    file.write_bytes(b'{"prompt": "fine"}\n' + line)
    spec = a_spec(tmp_path, prompts={**_set(file), "num_per_iteration": 1}, evaluation={"num_prompts": 0})
    _, (skipped,) = load_prompts(spec)
    assert (skipped.id, skipped.reason) == ("one.jsonl:2", reason)


def test_conversations_in_parquet_are_read_with_their_text_parts(tmp_path: Path) -> None:
    """UltraChat's shape: `prompt_id` and `messages`, the last turn the assistant's; Arrow fills what a part lacks."""
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": " you"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts[:1]}]
    file = tmp_path / "chat.parquet"
    pq.write_table(pa.table({"prompt_id": ["x"], "messages": [turns]}), file)
    source = _set(file, id_column="prompt_id", drop_last_assistant_turns=True)
    prompts, _ = load_prompts(
        a_spec(tmp_path, prompts={**source, "num_per_iteration": 1}, evaluation={"num_prompts": 0})
    )
    assert [(prompt.prompt_id, prompt.messages) for prompt in prompts] == [
        ("x", [Message(role="user", content="hello you")])
    ]


def test_the_lfs_pointer_of_a_real_repository_is_told_from_data(tmp_path: Path) -> None:
    file = tmp_path / "named.jsonl"
    file.write_bytes(outside_data("adversarial/lfs_pointer_named.jsonl.gz.txt").read_bytes())
    with pytest.raises(InvalidSpecError, match="Git LFS pointer"):
        load_prompts(a_spec(tmp_path, prompts=_set(file)))


def test_every_naughty_string_is_a_prompt_or_a_listed_skip(tmp_path: Path) -> None:
    strings = json.loads(outside_data("adversarial/blns.json").read_text())
    file = tmp_path / "naughty.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in strings))
    prompts, skipped = load_prompts(a_spec(tmp_path, prompts=_set(file)))
    assert len(prompts) + len(skipped) == len(strings)
    assert len(prompts) > 400


def test_every_file_of_the_json_test_suite_is_read_or_listed(tmp_path: Path) -> None:
    """Each file becomes one line (line breaks inside JSON are only white space); none may raise."""
    with tarfile.open(outside_data("adversarial/JSONTestSuite.tar.gz")) as archive:
        files = [archive.extractfile(member) for member in archive.getmembers() if member.name.endswith(".json")]
        bodies = [file.read().replace(b"\n", b" ").replace(b"\r", b" ") for file in files if file is not None]
    file = tmp_path / "suite.jsonl"
    lines = [b'{"prompt": "fine"}', *(b'{"prompt": ' + body + b"}" for body in bodies)]
    file.write_bytes(b"\n".join(lines))
    prompts, skipped = load_prompts(
        a_spec(tmp_path, prompts={**_set(file), "num_per_iteration": 1}, evaluation={"num_prompts": 0})
    )
    assert len(prompts) + len(skipped) == len(lines)
    assert len(skipped) > 188
