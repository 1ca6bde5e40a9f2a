# huggingface_hub is only partly typed.
# pyright: reportUnknownVariableType=false
"""Where the rows of a prompt set come from: JSONL, Parquet, or a hub dataset of such files."""

from collections.abc import Iterator
from pathlib import Path

from services.controller.prompts.errors import InvalidSpecError
from services.controller.prompts.json_rows import Row, json_rows
from services.controller.prompts.limits import PromptLimits
from services.controller.prompts.parquet_rows import parquet_rows
from shared.contracts.spec import PROMPT_COLUMNS, PromptSource


def rows_in(source: PromptSource, field: str, limits: PromptLimits) -> Iterator[Row]:
    """The set's rows in their order, at most `limit`, and no more is read than that needs.

    `InvalidSpecError` for what cannot be had or read, and for more rows than the limits allow.
    """
    left = limits.rows if source.limit is None else min(source.limit, limits.rows)
    for path in _files(source, field):
        for row in _rows_of(path, source, field, limits):
            if left == 0:
                raise InvalidSpecError(f"{field}.limit", limits.too_many())
            left -= 1
            yield row
            if left == 0 and source.limit is not None and source.limit <= limits.rows:
                return


def _rows_of(path: Path, source: PromptSource, field: str, limits: PromptLimits) -> Iterator[Row]:
    if path.suffix != ".parquet":
        return json_rows(path, field, limits)
    column = source.column
    columns = PROMPT_COLUMNS if column is None else (column,) if isinstance(column, str) else tuple(column)
    wanted = {*columns, source.id_column} - {None}
    return parquet_rows(path, field, [name for name in wanted if name is not None], limits)


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
