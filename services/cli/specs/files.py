"""Run files: YAML (or JSON) with overrides from the command line, as a validated `RunSpec`.

Relative paths of the file mean the file's own folder, or the current one where they exist only there; paths of
overrides the other way round. The controller may run anywhere, so paths leave this module absolute.
"""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from services.cli.failures import SpecError
from services.cli.specs.errors import explain
from shared.contracts.spec import RunSpec

Document = dict[str, Any]


def load_spec(file: Path, overrides: Sequence[str] = ()) -> RunSpec:
    """The run file with `a.b=value` overrides applied; `SpecError` names every wrong field, its value and a remedy."""
    document = read_document(file)
    here = Path.cwd()
    resolve_paths(document, (file.resolve().parent, here))
    for override in overrides:
        override_field(document, override)
    resolve_paths(document, (here, file.resolve().parent))
    try:
        return RunSpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"{file} is not a run:\n{explain(error, document)}") from None


def read_document(file: Path) -> Document:
    """The file's mapping; `SpecError` when it is missing, not YAML, or says something twice."""
    try:
        document: Any = yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
    except FileNotFoundError:
        raise SpecError(f"{file} does not exist; examples/ holds run files to start from") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise SpecError(f"cannot read {file}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{file} is not YAML: {error}") from None
    if not isinstance(document, dict):
        found = "nothing" if document is None else type(cast(object, document)).__name__
        raise SpecError(f"{file} holds {found}, a run is a mapping of fields such as model: and prompts:")
    return cast(Document, document)


def override_field(document: Document, override: str) -> None:
    """Apply `a.b.0.c=value` in place; the value is read as YAML, numbers in the path count list items from 0."""
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise SpecError(f"--set {override!r} is not of the form field.sub=value, e.g. --set training.batch_size=32")
    try:
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"--set {path}: the value {text!r} is not YAML: {error}") from None
    node: Any = document
    for depth, key in enumerate(keys[:-1]):
        node = _step_into(node, key, ".".join(keys[: depth + 1]), override)
    _assign(node, keys[-1], value, path, override)


def resolve_paths(document: Document, folders: Sequence[Path]) -> None:
    """Make the paths of models, judges and prompt files absolute, in place; hub ids stay what they are."""
    for holder, is_model in _path_holders(document):
        path = holder.get("path")
        if isinstance(path, str) and path:
            holder["path"] = _resolved(path, folders, is_model=is_model)


def _resolved(path: str, folders: Sequence[Path], *, is_model: bool) -> str:
    expanded = Path(path).expanduser()
    candidates = [folder / expanded for folder in folders]
    for candidate in candidates:
        if candidate.exists():
            return str(candidate.resolve())
    may_be_hub_id = is_model and path.count("/") == 1 and path[0] not in "./~"
    return path if may_be_hub_id else str(candidates[0].resolve())


def _path_holders(document: Document) -> Iterator[tuple[Document, bool]]:
    """The mappings with a `path`, and whether it may be a hub id. Tolerates what validation will refuse."""
    prompts = _mapping(document.get("prompts"))
    sets = prompts.get("sets")
    yield _mapping(document.get("model")), True
    judge = _mapping(_mapping(document.get("oracle")).get("judge"))
    yield judge, True
    members = judge.get("members")
    for member in cast(list[Any], members) if isinstance(members, list) else []:
        yield _mapping(_mapping(member).get("judge")), True
    yield _mapping(_mapping(document.get("evaluation")).get("prompts")), False
    for source in cast(list[Any], sets) if isinstance(sets, list) else []:
        yield _mapping(source), False


def _mapping(value: Any) -> Document:
    return cast(Document, value) if isinstance(value, dict) else {}


def _step_into(node: Any, key: str, path: str, override: str) -> Any:
    if isinstance(node, list):
        return cast(list[Any], node)[_index(cast(list[Any], node), key, path, override)]
    if not isinstance(node, dict):
        raise SpecError(f"--set {override}: {path} does not exist, what is above it is the value {node!r}")
    mapping = cast(Document, node)
    if mapping.get(key) is None:
        mapping[key] = {}
    return mapping[key]


def _assign(node: Any, key: str, value: Any, path: str, override: str) -> None:
    if isinstance(node, list):
        cast(list[Any], node)[_index(cast(list[Any], node), key, path, override)] = value
    elif isinstance(node, dict):
        cast(Document, node)[key] = value
    else:
        raise SpecError(f"--set {override}: {path} does not exist, what is above it is the value {node!r}")


def _index(items: list[Any], key: str, path: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise SpecError(f"--set {override}: {path} names no item of a list of {len(items)}; items count from 0")
    return int(key)


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a field is said once: PyYAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As in `SafeLoader`; a repeated key is an error with its line."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)
