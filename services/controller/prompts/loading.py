# pyarrow and huggingface_hub are only partly typed; rows leave this module as validated prompts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Prompts from JSONL, Parquet or a hub dataset: read once at creation, everything left out is listed with a reason."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import pyarrow as pa
import pyarrow.parquet as pq

from shared.contracts.records import Message, Prompt, Skipped
from shared.contracts.spec import PromptSource, RunSpec
from shared.inpo.seeds import seed_of

_LFS = b"version https://git-lfs.github.com/spec/"

Row = tuple[str, dict[str, Any] | str]  # where it stands, and its columns or why it cannot be read


class InvalidSpecError(ValueError):
    """A prompt source that cannot be used; `field` is its place in the RunSpec."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def load_prompts(spec: RunSpec) -> tuple[list[Prompt], list[Skipped]]:
    """All prompts of a run, held-out ones marked, and what was left out.

    Without a set of their own, the held-out prompts are taken from the first training set and from no training set
    again. Raises `InvalidSpecError` for a source that is missing, unreadable, or leaves too few prompts.
    """
    skipped: list[Skipped] = []
    train: list[Prompt] = []
    seen: dict[str, str] = {}
    for index, source in enumerate(spec.prompts.sets):
        train += _read_set(source, f"prompts.sets.{index}", index, seen, skipped)
    held_out = _held_out(spec, train, skipped)
    if spec.evaluation.prompts is None:
        withheld = {prompt.prompt_id for prompt in held_out}
        train = [prompt for prompt in train if prompt.prompt_id not in withheld]
    _check_enough(spec, train)
    return train + held_out, skipped


def _held_out(spec: RunSpec, train: list[Prompt], skipped: list[Skipped]) -> list[Prompt]:
    wanted = spec.evaluation.num_prompts
    if wanted == 0:
        return []
    if spec.evaluation.prompts is not None:
        pool = _read_set(spec.evaluation.prompts, "evaluation.prompts", 0, {}, skipped)
    else:
        pool = [prompt for prompt in train if prompt.set == 0]
        pool.sort(key=lambda prompt: seed_of("held out", spec.seed, prompt.prompt_id))
        if len(pool) <= wanted:
            raise InvalidSpecError(
                "evaluation.num_prompts",
                f"{wanted} of {len(pool)} prompts would leave none to train on; lower it or give evaluation.prompts",
            )
    return [prompt.model_copy(update={"split": "held_out"}) for prompt in pool[:wanted]]


def _check_enough(spec: RunSpec, train: list[Prompt]) -> None:
    for index in range(len(spec.prompts.sets)):
        num = sum(prompt.set == index for prompt in train)
        wanted = spec.prompts.num_per_iteration or 1
        if num < wanted:
            raise InvalidSpecError(
                f"prompts.sets.{index}", f"holds {num} usable training prompts, an iteration needs {wanted}"
            )


def _read_set(
    source: PromptSource, field: str, index: int, seen: dict[str, str], skipped: list[Skipped]
) -> list[Prompt]:
    """The usable prompts of a set. `seen` maps contents and ids, of this set and those before, to a place."""
    prompts: list[Prompt] = []
    for where, row in _rows(source, field):
        prompt = _prompt(source, index, where, row)
        if isinstance(prompt, Prompt):
            marks = {f"content {_content_id(prompt.messages)}", f"id {prompt.prompt_id}"}
            known = sorted(seen[mark] for mark in marks if mark in seen)
            if not known:
                prompts.append(prompt)
                seen.update(dict.fromkeys(marks, where))
                continue
            prompt = Skipped(id=where, reason=f"duplicate of {known[0]}")
        skipped.append(prompt)
    if not prompts:
        reasons = "; ".join(f"{item.id}: {item.reason}" for item in skipped[-3:])
        raise InvalidSpecError(field, f"no usable prompt ({reasons or 'the source is empty'})")
    return prompts


def _prompt(source: PromptSource, index: int, where: str, row: dict[str, Any] | str) -> Prompt | Skipped:
    if isinstance(row, str):
        return Skipped(id=where, reason=row)
    if source.column not in row:
        return Skipped(id=where, reason=f"no column {source.column!r}; it has {sorted(row)}")
    try:
        messages = _messages(row[source.column], source.system)
        content = _content_id(messages)
        identity = content if source.id_column is None else _identity(row[source.id_column])
        return Prompt(prompt_id=identity, messages=messages, split="train", set=index)
    except UnicodeEncodeError:
        return Skipped(id=where, reason="holds characters that are not valid Unicode (lone surrogates)")
    except KeyError as error:
        return Skipped(id=where, reason=f"not a prompt: {error} is missing")
    except ValueError as error:
        return Skipped(id=where, reason=f"not a prompt: {error}")


def _identity(value: Any) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise ValueError(f"its id is {value!r}, not text or a number")
    identity = str(value)
    identity.encode()
    return identity


def _messages(value: Any, system: str | None) -> list[Message]:
    """A string becomes one user message; a list is a conversation that ends with the user's turn."""
    if isinstance(value, str):
        messages = [Message(role="user", content=value)]
    elif isinstance(value, list):
        messages = [_message(turn) for turn in cast(list[Any], value)]
    else:
        raise ValueError(f"expected a string or a list of messages, found {type(value).__name__}")
    if not messages or messages[-1].role != "user":
        raise ValueError("the last message must be the user's")
    if any(not message.content.strip() for message in messages):
        raise ValueError("empty text")
    if system is not None and messages[0].role != "system":
        messages.insert(0, Message(role="system", content=system))
    return messages


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise ValueError("a conversation is a list of {role, content} objects")
    fields = cast(dict[str, Any], turn)
    return Message(role=fields["role"], content=fields["content"])


def _content_id(messages: list[Message]) -> str:
    text = "\x1e".join(f"{message.role}\x1f{message.content}" for message in messages)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rows(source: PromptSource, field: str) -> Iterator[Row]:
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
    except ValueError as error:
        return f"not JSON: {error}"
    return cast(dict[str, Any], row) if isinstance(row, dict) else f"not a JSON object but {type(row).__name__}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


Split = Literal["train", "held_out"]


def rows_of(prompts: list[Prompt], split: Split, index: int = 0) -> list[int]:
    """Row numbers of a split (and, for training, of one set) in the run's prompts."""
    return [
        row
        for row, prompt in enumerate(prompts)
        if prompt.split == split and (split == "held_out" or prompt.set == index)
    ]
