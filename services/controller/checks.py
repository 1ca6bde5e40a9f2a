"""What can be refused at creation without loading a model."""

import json
import re
from pathlib import Path

from services.controller.prompts import InvalidSpecError
from shared.contracts.spec import RunSpec, judges_of

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_ENTRY_POINT = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


def check_models(spec: RunSpec) -> None:
    """`InvalidSpecError` naming the field when the model, or a judge's, is neither a model directory nor a hub id."""
    _check_model("model.path", spec.model.path)
    for field, judge in judges_of(spec.oracle.judge).items():
        if judge.kind == "rules":
            if not _ENTRY_POINT.match(judge.entry_point):
                raise InvalidSpecError(
                    f"oracle.{field}.entry_point", f"{judge.entry_point!r} is not of the form module:factory"
                )
        elif judge.kind == "reward_model" or judge.kind == "pair_model":  # noqa: PLR1714  (narrows the type)
            _check_model(f"oracle.{field}.path", judge.path)


def _check_model(field: str, path: str) -> None:
    directory = Path(path).expanduser()
    if not _exists(directory):
        if _HUB_ID.match(path) and not path.startswith("."):
            return
        raise InvalidSpecError(field, f"{path} is neither a directory nor a hub id such as org/name")
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidSpecError(field, f"{path} has no readable config.json: {error}") from error
    if not isinstance(config, dict):
        raise InvalidSpecError(field, f"{path}/config.json is not an object")
    if not any(directory.glob("*.safetensors")):
        raise InvalidSpecError(field, f"{path} holds no safetensors file")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file system takes
        return False
