"""`python -m services.cli.docs`: writes docs/configuration.md from the code that reads the configuration."""

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from services.cli.specs.errors import models_in
from services.controller.settings import ControllerSettings
from services.oracle.settings import OracleSettings
from services.policy.settings import PolicySettings
from services.trainer.settings import TrainerSettings
from shared.contracts.spec import RunSpec
from shared.runtime.http.app import HttpSettings
from shared.runtime.settings import Settings

TARGET = Path(__file__).parents[2] / "docs" / "configuration.md"

HEAD = """\
<!-- Made by `make docs` from the settings classes and RunSpec. Do not edit. -->
# Configuration

Two places: a service's **settings** are environment variables with the prefix `INPO_`, the same for every run; a run's
**specification** is the YAML file of `inpo run`, the JSON body of `POST /v1/runs`. A run's unknown field is an error.
"""

SECTIONS: list[tuple[str, str, type[BaseModel]]] = [
    ("Every service", "", Settings),
    ("Services with an HTTP API", "The controller, the oracle and the policy.", HttpSettings),
    ("Controller", "", ControllerSettings),
    ("Policy", "", PolicySettings),
    ("Oracle", "", OracleSettings),
    ("Trainer", "", TrainerSettings),
]

_SYMBOLS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def render() -> str:
    """The page."""
    lines = [HEAD, "## Settings of the services", ""]
    for title, introduction, settings in SECTIONS:
        fields = {name: field for name, field in settings.model_fields.items() if name in settings.__annotations__}
        lines += [f"### {title}", ""]
        lines += [introduction, ""] if introduction else []
        lines += _table("variable", [(f"INPO_{name.upper()}", field) for name, field in fields.items()])
    lines += ["## The `inpo` command", "", *_command_variables(), "## The run's specification", ""]
    for path, model in _nested(RunSpec, ""):
        lines += [f"### `{path}`" if path else "### Top level", "", (model.__doc__ or "").strip(), ""]
        lines += _table("field", list(model.model_fields.items()))
    return "\n".join(lines)


def _table(first: str, rows: list[tuple[str, FieldInfo]]) -> list[str]:
    cells = [(f"`{name}`", _type(field), _default(field), _escaped(field.description or "")) for name, field in rows]
    head = [f"| {first} | type | default | meaning |", "|---|---|---|---|"]
    return [*head, *("| " + " | ".join(row) + " |" for row in cells), ""]


def _command_variables() -> Iterator[str]:
    import typer.main  # noqa: PLC0415  (documentation only)

    from services.cli.main import app  # noqa: PLC0415

    yield from ("| variable | option | meaning |", "|---|---|---|")
    found: dict[str, str] = {}
    root: Any = typer.main.get_command(app)
    groups = [command.commands.values() for command in root.commands.values() if hasattr(command, "commands")]
    for command in (*root.commands.values(), *(member for group in groups for member in group)):
        for parameter in command.params:
            names: Any = parameter.envvar or []
            for name in [names] if isinstance(names, str) else names:
                found[name] = f"| `{name}` | `{parameter.opts[0]}` | {_escaped(parameter.help or '')} |"
    found["INPO_API_KEY"] = "| `INPO_API_KEY` | | The controller's key itself; prefer a file. |"
    yield from (found[name] for name in sorted(found))
    yield ""


def _nested(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """A model and the models of its fields, each with its path in the document."""
    yield path, model
    for name, field in model.model_fields.items():
        inner = list(models_in(field.annotation))
        for member in inner:
            kind = member.model_fields.get("kind")
            suffix = f" (kind: {kind.default})" if kind is not None and len(inner) > 1 else ""
            items = "[]" if get_origin(field.annotation) is list else ""
            yield from _nested(member, f"{path}{'.' if path else ''}{name}{items}{suffix}")


def _type(field: FieldInfo) -> str:
    limits = [limit for item in field.metadata for limit in _limits(item)]
    return ", ".join([_type_name(field.annotation), *limits])


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_name(argument) for argument in arguments))
    if origin in (list, tuple):
        return f"list of {_type_name(arguments[0])}"
    return _type_name(arguments[0]) if origin is Annotated else _plain_name(origin or annotation)


def _plain_name(annotation: type[object]) -> str:
    if issubclass(annotation, BaseModel):
        return "fields below"
    names: dict[type[object], str] = {
        str: "text",
        SecretStr: "text",
        int: "integer",
        float: "number",
        bool: "yes or no",
        Path: "path",
        dict: "mapping",
        type(None): "none",
    }
    return names[annotation]


def _limits(item: Any) -> Iterator[str]:
    for name, symbol in _SYMBOLS.items():
        if getattr(item, name, None) is not None:
            yield f"{symbol} {getattr(item, name)}"
    if getattr(item, "min_length", None):
        yield f"at least {item.min_length}"
    if getattr(item, "pattern", None):
        yield f"`{_escaped(item.pattern)}`"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value == {}:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(f"`{item}`" for item in cast(Sequence[object], value))
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
