"""Rendered manifests as the rules see them: by kind and name, and as the pods that they lead to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

Manifest = dict[str, Any]

_TEMPLATES: Mapping[str, Sequence[Sequence[str]]] = {
    "Deployment": [["template"]],
    "StatefulSet": [["template"]],
    "DaemonSet": [["template"]],
    "Job": [["template"]],
    "CronJob": [["jobTemplate", "spec", "template"]],
    "LeaderWorkerSet": [["leaderWorkerTemplate", "leaderTemplate"], ["leaderWorkerTemplate", "workerTemplate"]],
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and with which object."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


Findings = Iterator[Finding]


@dataclass(frozen=True)
class Pod:
    """A pod template, and the object that makes pods of it."""

    owner: Manifest
    template: Manifest

    @cached_property
    def spec(self) -> Manifest:
        """The pod's specification."""
        return self.template["spec"]

    @cached_property
    def labels(self) -> dict[str, str]:
        """The pods' labels."""
        return part(self.template, "metadata", "labels")

    @cached_property
    def containers(self) -> list[Manifest]:
        """All containers, those that run first included."""
        return [*parts(self.spec, "initContainers"), *parts(self.spec, "containers")]

    @cached_property
    def serving(self) -> list[Manifest]:
        """The containers that stay: the pod's own and its sidecars."""
        sidecars = [c for c in parts(self.spec, "initContainers") if c.get("restartPolicy") == "Always"]
        return [*sidecars, *parts(self.spec, "containers")]

    @cached_property
    def ports(self) -> list[Manifest]:
        """The ports of all containers."""
        return [port for container in self.containers for port in parts(container, "ports")]

    @property
    def namespace(self) -> str | None:
        """Where the pods run."""
        return self.owner["metadata"].get("namespace")

    def environment(self) -> dict[str, str]:
        """The variables that are given as they are, of all containers."""
        return {e["name"]: e["value"] for c in self.containers for e in parts(c, "env") if "value" in e}


class Manifests:
    """The objects of one rendering."""

    def __init__(self, objects: Iterable[Manifest]) -> None:
        self.objects = list(objects)
        self._by_key = {_key(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]): o for o in self.objects}

    def of(self, *kinds: str) -> list[Manifest]:
        """All objects of these kinds."""
        return [o for o in self.objects if o["kind"] in kinds]

    def beside(self, o: Manifest, kind: str, name: str) -> Manifest | None:
        """The object of that name in the namespace of another one."""
        return self._by_key.get(_key(kind, o["metadata"].get("namespace"), name))

    @cached_property
    def pods(self) -> list[Pod]:
        """The pods that the objects lead to."""
        return [Pod(o, template) for o in self.objects for template in templates(o)]

    def selected(self, o: Manifest, selector: Manifest) -> list[Pod]:
        """The pods of an object's namespace that a label selector matches."""
        namespace = o["metadata"].get("namespace")
        return [pod for pod in self.pods if pod.namespace == namespace and selects(selector, pod.labels)]


def named(o: Manifest) -> str:
    """How findings call an object."""
    return f"{o['kind']}/{o['metadata']['name']}"


def part(o: Manifest, *path: str) -> Manifest:
    """What lies below a path of fields; empty where there is nothing."""
    found: Any = o
    for field in path:
        found = found.get(field) or {}
    return cast(Manifest, found)


def parts(o: Manifest, *path: str) -> list[Manifest]:
    """The list below a path of fields; empty where there is none."""
    found: Any = part(o, *path[:-1]).get(path[-1]) or []
    return cast(list[Manifest], found)


def templates(o: Manifest) -> Iterator[Manifest]:
    """The pod templates in an object."""
    for path in _TEMPLATES.get(o["kind"], []):
        if found := part(o, "spec", *path):
            yield found


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches."""
    exact = part(selector, "matchLabels")
    return all(labels.get(name) == value for name, value in exact.items()) and all(
        _holds(e, labels.get(e["key"])) for e in parts(selector, "matchExpressions")
    )


def _holds(expression: Manifest, value: str | None) -> bool:
    wanted: list[Any] = parts(expression, "values")
    return {
        "In": value in wanted,
        "NotIn": value not in wanted,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[expression["operator"]]


def _key(kind: str, namespace: str | None, name: str) -> tuple[str, str | None, str]:
    return kind, namespace, name
