"""Manifests against the schemas of Kubernetes, by `kubernetes-validate --strict`, and of what operators bring.

The latter are in `crds/`, written here: the fields that the chart uses and no others. An unknown kind is a finding.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from k8s.check.chart import TOOLS
from k8s.check.manifests import Finding, Manifest, named, templates

VERSIONS = ("1.32", "1.37")
CRDS = Path(__file__).parent / "crds"
LINE = re.compile(r"(?:ERROR|WARN) (?P<file>\S+\.yaml) (?P<what>.*)")


class ToolError(RuntimeError):
    """kubernetes-validate itself failed."""


def mismatches(sets: Mapping[str, Iterable[Manifest]]) -> dict[str, list[Finding]]:
    """What is wrong in each of several sets of objects. An object that several have is looked at once."""
    objects: dict[str, Manifest] = {}
    users: dict[str, list[str]] = {}
    for name, manifests in sets.items():
        for o in manifests:
            text = json.dumps(o, sort_keys=True)
            objects.setdefault(text, o)
            users.setdefault(text, []).append(name)
    found: dict[str, list[Finding]] = {name: [] for name in sets}
    for text, finding in _each(objects):
        for name in dict.fromkeys(users[text]):
            found[name].append(finding)
    return found


def _each(objects: Mapping[str, Manifest]) -> Iterator[tuple[str, Finding]]:
    core: list[tuple[str, Manifest]] = []
    for text, o in objects.items():
        schema = _custom(o["apiVersion"], o["kind"])
        if schema is None:
            core.append((text, o))
            continue
        for error in schema.iter_errors(o):
            yield text, Finding(named(o), f"{'.'.join(map(str, error.instance_path))}: {error.message}")
        core += [(text, {"apiVersion": "v1", "kind": "PodTemplate", "template": t, **_same(o)}) for t in templates(o)]
    yield from _by_kubernetes(core)


def _same(o: Manifest) -> Manifest:
    return {"metadata": o["metadata"]}


@cache
def _custom(api_version: str, kind: str) -> "jsonschema_rs.Validator | None":
    file = CRDS / f"{kind.lower()}-{api_version.replace('/', '-')}.json"
    return jsonschema_rs.validator_for(json.loads(file.read_bytes())) if file.exists() else None


def _by_kubernetes(objects: list[tuple[str, Manifest]]) -> Iterator[tuple[str, Finding]]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.yaml" for number in range(len(objects))]
        for file, (_, o) in zip(files, objects, strict=True):
            file.write_text(json.dumps(o), encoding="utf-8")
        # One process a version, side by side.
        for version, process in [(version, _started(version, files)) for version in VERSIONS if files]:
            output, complaint = process.communicate()
            if complaint:
                raise ToolError(complaint)
            for line in output.splitlines():
                matched = LINE.match(line)
                if matched is None:
                    raise ToolError(line)
                text, o = objects[int(Path(matched["file"]).stem)]
                yield text, Finding(named(o), f"Kubernetes {version}: {_told(matched['what'])}")


def _started(version: str, files: list[Path]) -> "subprocess.Popen[str]":
    command: list[Any] = [TOOLS / "kubernetes-validate", "--strict", "--quiet", "-k", version, *files]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _told(what: str) -> str:
    return what.partition("against version ")[2].partition(": ")[2] or what
