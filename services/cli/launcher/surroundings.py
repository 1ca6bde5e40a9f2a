"""The user's environment for services that start in another folder than the one that he stands in."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

# Of others, whose settings may be paths as well.
_FOREIGN = frozenset({"HF_HOME", "HF_HUB_CACHE", "SSL_CERT_FILE", "SSL_CERT_DIR", "INPO_VLLM_PYTHON"})


def services_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The same, with paths that mean the same in every folder, and Python importing nothing from the current one.

    An empty entry of PYTHONPATH, which would be the current folder, is left out; `.` is the folder that it is now.
    """
    settings = frozenset(_path_settings())
    found = {
        name: _absolute(value) if name.upper() in settings | _FOREIGN else value for name, value in environment.items()
    }
    if "PYTHONPATH" in found:
        entries = [_absolute(entry) for entry in found["PYTHONPATH"].split(os.pathsep) if entry]
        found["PYTHONPATH"] = os.pathsep.join(entries)
    return {**found, "PYTHONSAFEPATH": "1"}


def _path_settings() -> Iterator[str]:
    """The variables of all services that hold a path, or paths as JSON."""
    from services.controller.settings import ControllerSettings  # noqa: PLC0415  (`inpo --help` does without)
    from services.oracle.settings import OracleSettings  # noqa: PLC0415
    from services.policy.settings import PolicySettings  # noqa: PLC0415
    from services.trainer.settings import TrainerSettings  # noqa: PLC0415

    for settings in (ControllerSettings, OracleSettings, PolicySettings, TrainerSettings):
        for name, field in settings.model_fields.items():
            if "Path" in str(field.annotation):
                yield f"INPO_{name}".upper()


def _absolute(value: str) -> str:
    """A path, or the paths in a JSON list or object, made absolute; what is neither stays for the service to refuse."""
    if value.lstrip().startswith(("[", "{")):
        with suppress(ValueError):
            return json.dumps(_absolute_in(json.loads(value)))
        return value
    return str(Path.cwd() / value) if value else value


def _absolute_in(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _absolute_in(below) for name, below in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_absolute_in(below) for below in cast(list[Any], value)]
    return _absolute(value) if isinstance(value, str) else value
