"""The chart as helm renders it. helm and kubectl are those of `.venv-k8s`, which `make k8s-tools` makes."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from k8s.check.manifests import Manifest, part

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-k8s" / "bin"
CHART = ROOT / "k8s" / "inpo"
NAMESPACE = "inpo"

Values = dict[str, Any]


class ChartError(ValueError):
    """helm refuses; the message is its own."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """The objects that some values lead to, and what stands beside them because the values say so."""

    name: str
    text: str
    values: Values

    @property
    def objects(self) -> list[Manifest]:
        """What helm rendered."""
        return [o for o in yaml.load_all(self.text, yaml.CSafeLoader) if o]


def presets() -> dict[str, Path]:
    """The presets' files by name."""
    return {file.stem.removeprefix("values-"): file for file in sorted((ROOT / "k8s").glob("values-*.yaml"))}


def preset_values(name: str) -> Values:
    """What a preset sets; `ChartError` when there is none of that name."""
    found = presets().get(name)
    if found is None:
        raise ChartError(f"no preset {name!r}; there are {', '.join(presets())}")
    return cast(Values, yaml.safe_load(found.read_text(encoding="utf-8")))


def render(name: str, values: Values, *, release: str = "inpo", namespace: str = NAMESPACE) -> Rendering:
    """What `helm install` would apply; `ChartError` when the values are refused."""
    command = ["template", release, str(CHART), "--namespace", namespace, "--values", "-"]
    return Rendering(name, run("helm", *command, stdin=json.dumps(values)), values)


def lint(values: Values) -> None:
    """`ChartError` with what `helm lint --strict` finds."""
    run("helm", "lint", "--strict", "--quiet", str(CHART), "--values", "-", stdin=json.dumps(values))


def beside(values: Values) -> list[Manifest]:
    """Stand-ins for what an install expects to find: secrets and claims that the values name."""
    secrets = (
        (("keys", "existingSecret"), ("api", "vllm", "redis")),
        (("model", "tokenSecret"), ("token",)),
        (("store", "object", "credentialsSecret"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        (("redis", "existingSecret"), ("url", "password")),
    )
    found = [
        _object("Secret", name, data=dict.fromkeys(keys, "eA=="))
        for path, keys in secrets
        if (name := _value(values, path))
    ]
    for room in ("store", "model"):
        if name := _value(values, (room, "claim", "existing")):
            mode = _value(values, (room, "claim", "accessMode")) or "ReadWriteOnce"
            found.append(_object("PersistentVolumeClaim", name, spec={"accessModes": [mode]}))
    return found


def run(program: str, *arguments: str, stdin: str | None = None) -> str:
    """What one of the tools prints; `ChartError` with what it complains about."""
    command = [str(TOOLS / program), *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT, env=_environment()
    )
    if done.returncode != 0:
        raise ChartError(f"{program} {arguments[0]}: {(done.stderr + done.stdout).strip()}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Helm keeps nothing of whoever runs it here, and reads no cluster but the one that KUBECONFIG names."""
    scratch = str(Path(tempfile.gettempdir()) / "inpo-helm")
    return {**os.environ, "HELM_CACHE_HOME": scratch, "HELM_CONFIG_HOME": scratch, "HELM_DATA_HOME": scratch}


def _object(kind: str, name: str, **content: Mapping[str, object]) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **content}


def _value(values: Values, path: Sequence[str]) -> str:
    return str(part(values, *path[:-1]).get(path[-1]) or "")
