"""What can be refused at creation without loading a model."""

import json
import re
from pathlib import Path

from services.controller.prompts.errors import InvalidSpecError
from shared.contracts.judges import judges_of
from shared.contracts.spec import RunSpec

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_ENTRY_POINT = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


# What two checkpoints may differ in and still be served by the same running engine.
_FREE = frozenset(
    [
        "_name_or_path",
        "transformers_version",
        "use_cache",
        "attention_dropout",
        "hidden_dropout",
        "initializer_range",
        "pretraining_tp",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "torch_dtype",
        "dtype",
    ]
)


def check_models(spec: RunSpec, served: Path | None = None) -> None:
    """`InvalidSpecError` naming the field when the model, or a judge's, is neither a model directory nor a hub id.

    With `served`, the model directory that the engine runs on, also when the model has another architecture.
    """
    _check_model("model.path", spec.model.path)
    if served is not None:
        _check_served(Path(spec.model.path).expanduser(), served)
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


def _check_served(directory: Path, served: Path) -> None:
    """A model that is still on the hub cannot be compared here; the engine's own preflight refuses it in time."""
    if not _exists(directory):
        return
    try:
        serving = json.loads((served / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidSpecError(
            "model.path", f"INPO_SERVED_MODEL: {served} has no readable config.json: {error}"
        ) from error
    asked = json.loads((directory / "config.json").read_bytes())
    # What only one of them names has a default that is not known here; the engine's preflight sees every tensor.
    for name in sorted((asked.keys() & serving.keys()) - _FREE):
        if asked[name] != serving[name]:
            raise InvalidSpecError(
                "model.path",
                f"{directory} has {name} {asked[name]!r}, but the engine was started on {served} with "
                f"{serving[name]!r} and can serve no other architecture: start it on a model like this one "
                "(inpo up --engine vllm --model DIR), or use the engine `transformers`",
            )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file system takes
        return False
