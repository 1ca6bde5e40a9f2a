"""Pydantic's errors of a `RunSpec` as lines for people: the field, its value, what is wrong, what to do."""

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from shared.contracts.spec import RunSpec

_SHOWN = 60


def explain(error: ValidationError, document: Mapping[str, Any]) -> str:
    """One line an error, most helpful first part: `  algorithm.eta = -1: Input should be greater than 0 (…)`."""
    return "\n".join(f"  {_line(item, document)}" for item in error.errors(include_url=False))


def _line(item: ErrorDetails, document: Mapping[str, Any]) -> str:
    keys = tuple(_document_path(item["loc"], document))
    field = ".".join(map(str, keys)) or "the run"
    kind, message = item["type"], item["msg"].removeprefix("Value error, ")
    info = _field_info(keys)
    description = f" ({info.description})" if info is not None and info.description else ""
    if kind == "missing":
        return f"{field} is missing{description}"
    if kind == "extra_forbidden":
        return f"{field} is not a field{_suggestion(keys)}"
    if kind == "union_tag_not_found":
        return f"{field}.kind is missing: one of {_tags(item)}"
    if kind == "union_tag_invalid":
        return f"{field}.kind = {_shown(_given(item))}: one of {_tags(item)}"
    if kind == "value_error" and isinstance(item["input"], Mapping):
        return f"{field}: {message}"
    return f"{field} = {_shown(item['input'])}: {message}{description}"


def _document_path(location: Sequence[str | int], document: Any) -> Iterator[str | int]:
    """The location without the tags that pydantic puts in for unions, which are not keys of the document."""
    node = document
    for depth, key in enumerate(location):
        inside = _child(node, key)
        known = inside is not None or depth + 1 == len(location)
        if not known and isinstance(node, Mapping):
            continue
        if isinstance(key, str) and not isinstance(node, Mapping):
            continue
        yield key
        node = inside


def _child(node: Any, key: str | int) -> Any:
    if isinstance(node, Mapping):
        return cast(Mapping[str | int, Any], node).get(key)
    if isinstance(node, list) and isinstance(key, int) and key < len(cast(list[Any], node)):
        return cast(list[Any], node)[key]
    return None


def _field_info(keys: Sequence[str | int]) -> FieldInfo | None:
    models: list[type[BaseModel]] = [RunSpec]
    info: FieldInfo | None = None
    for key in keys:
        if isinstance(key, int):
            continue
        info = next((model.model_fields[key] for model in models if key in model.model_fields), None)
        if info is None:
            return None
        models = list(models_in(info.annotation))
    return info


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field's type can hold: itself, list items, members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated, list):
        for argument in get_args(annotation):
            yield from models_in(argument)


def _suggestion(keys: Sequence[str | int]) -> str:
    parent = _field_info(keys[:-1])
    models = list(models_in(parent.annotation)) if parent is not None else [RunSpec]
    names = sorted({name for model in models for name in model.model_fields})
    close = difflib.get_close_matches(str(keys[-1]), names, n=1)
    return f": did you mean {close[0]}?" if close else f": there are {', '.join(names)}"


def _tags(item: ErrorDetails) -> str:
    context = item.get("ctx", {})
    return str(context.get("expected_tags", "rules, reward_model, pair_model")).replace("'", "")


def _given(item: ErrorDetails) -> Any:
    return item.get("ctx", {}).get("tag")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
