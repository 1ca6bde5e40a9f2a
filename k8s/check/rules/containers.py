"""Containers: images, mounts, resources, ports, probes."""

import re
from collections.abc import Callable, Iterator

from k8s.check.manifests import Finding, Findings, Manifest, Manifests, Pod, named, part, parts

QUANTITY = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?")
POWERS = {"k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")


def quantity(text: object) -> float | None:
    """The number that a quantity of Kubernetes stands for; None when it is none."""
    found = QUANTITY.fullmatch(str(text))
    if found is None:
        return None
    number, unit = float(found[1]), found[2] or ""
    if unit == "m":
        return number / 1000
    if unit[:1] in POWERS and len(unit) <= 2:
        return number * (1024 if unit.endswith("i") else 1000) ** POWERS[unit[0]]
    return float(found[1] + unit) if unit[:1] in ("e", "E") else _binary(number, unit)


def _binary(number: float, unit: str) -> float:
    return number * 1024 ** {"": 0, "Ki": 1}[unit]


def _images(pod: Pod, c: Manifest) -> Iterator[str]:
    del pod
    image = c.get("image", "")
    if "@" not in image and (":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")):
        yield f"image {image!r} has no fixed tag"


def _mounts(pod: Pod, c: Manifest) -> Iterator[str]:
    claims = parts(pod.owner, "spec", "volumeClaimTemplates")
    volumes = {v["name"] for v in parts(pod.spec, "volumes")} | {claim["metadata"]["name"] for claim in claims}
    paths: set[str] = set()
    for mount in parts(c, "volumeMounts"):
        if mount["name"] not in volumes:
            yield f"mounts {mount['name']}, which is no volume of the pod"
        if mount["mountPath"] in paths:
            yield f"mounts two volumes at {mount['mountPath']}"
        paths.add(mount["mountPath"])


def _resources(pod: Pod, c: Manifest) -> Iterator[str]:
    del pod
    requests, limits = part(c, "resources", "requests"), part(c, "resources", "limits")
    for name, text in [*requests.items(), *limits.items()]:
        number = quantity(text)
        if number is None:
            yield f"{name}: {text!r} is no quantity"
        elif "/" in name and number % 1:
            yield f"{name} must be whole"
    for name, text in requests.items():
        wanted, most = quantity(text), quantity(limits[name]) if name in limits else None
        if "/" in name and name not in limits:
            yield f"{name} is requested without a limit"
        elif "/" in name and wanted != most:
            yield f"{name}: the request must equal the limit"
        elif wanted is not None and most is not None and wanted > most:
            yield f"{name}: the request {text} is above the limit {limits[name]}"
    if "memory" not in limits or not {"cpu", "memory"} <= set(requests):
        yield "needs requests of cpu and memory, and a limit of memory"


def _ports(pod: Pod, c: Manifest) -> Iterator[str]:
    del pod
    for port in parts(c, "ports"):
        if not PORT_NAME.fullmatch(port.get("name", "p")):
            yield f"port name {port['name']!r} is not allowed"


def _probes(pod: Pod, c: Manifest) -> Iterator[str]:
    names = {port.get("name") for port in parts(c, "ports")}
    for kind in (kind for kind in PROBES if kind in c):
        probe = c[kind]
        used = [handler for handler in HANDLERS if handler in probe]
        if c not in pod.serving:
            yield f"{kind} on a container that runs once"
        if len(used) != 1:
            yield f"{kind} needs exactly one handler, has {used}"
        if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
            yield f"{kind}: successThreshold must be 1"
        port = next((probe[handler].get("port") for handler in used if handler != "exec"), None)
        if isinstance(port, str) and port not in names:
            yield f"{kind}: port {port!r} names no port of the container"
        if probe.get("timeoutSeconds", 1) > probe.get("periodSeconds", 10):
            yield f"{kind}: one question is asked before the one before it is given up"


def _each(rule: Callable[[Pod, Manifest], Iterator[str]]) -> Callable[[Manifests], Findings]:
    def over(manifests: Manifests) -> Findings:
        for pod in manifests.pods:
            for container in pod.containers:
                for what in rule(pod, container):
                    yield Finding(named(pod.owner), f"container {container['name']}: {what}")

    return over


def distinct_names(manifests: Manifests) -> Findings:
    """No two containers, and no two volumes, of a pod have one name."""
    for pod in manifests.pods:
        for what, found in (("containers", pod.containers), ("volumes", parts(pod.spec, "volumes"))):
            names = [one["name"] for one in found]
            for name in {name for name in names if names.count(name) > 1}:
                yield Finding(named(pod.owner), f"two {what} are named {name}")


RULES = (distinct_names, *(_each(rule) for rule in (_images, _mounts, _resources, _ports, _probes)))
