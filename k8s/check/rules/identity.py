"""Names and versions of objects, and what they refer to by name."""

import re
from collections import Counter
from collections.abc import Iterator

from k8s.check.manifests import Finding, Findings, Manifest, Manifests, Pod, named, part, parts

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_LABELS = {"Service", "Namespace"}

# What a cluster of 1.29 or newer serves.
SERVED = {
    "ConfigMap": {"v1"},
    "CronJob": {"batch/v1"},
    "DaemonSet": {"apps/v1"},
    "Deployment": {"apps/v1"},
    "HorizontalPodAutoscaler": {"autoscaling/v1", "autoscaling/v2"},
    "Ingress": {"networking.k8s.io/v1"},
    "Job": {"batch/v1"},
    "Namespace": {"v1"},
    "NetworkPolicy": {"networking.k8s.io/v1"},
    "PersistentVolumeClaim": {"v1"},
    "PodDisruptionBudget": {"policy/v1"},
    "PriorityClass": {"scheduling.k8s.io/v1"},
    "Role": {"rbac.authorization.k8s.io/v1"},
    "RoleBinding": {"rbac.authorization.k8s.io/v1"},
    "Secret": {"v1"},
    "Service": {"v1"},
    "ServiceAccount": {"v1"},
    "StatefulSet": {"apps/v1"},
}
CLUSTER_WIDE = {"PriorityClass", "Namespace"}


def names(manifests: Manifests) -> Findings:
    """Every object has a name that is allowed, once, and is of a version that is served."""
    seen = Counter((o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in manifests.objects)
    for o in manifests.objects:
        kind, name = o["kind"], o["metadata"]["name"]
        if not (LABEL if kind in DNS_LABELS else SUBDOMAIN).fullmatch(name):
            yield Finding(named(o), "its name is not allowed")
        if seen[kind, o["metadata"].get("namespace"), name] > 1:
            yield Finding(named(o), "declared twice")
        if kind in SERVED and o["apiVersion"] not in SERVED[kind]:
            yield Finding(named(o), f"apiVersion {o['apiVersion']} is not served")


def references(manifests: Manifests) -> Findings:
    """Whatever a pod names is among the objects, and has the key that is asked for."""
    for pod in manifests.pods:
        for kind, name, key in _wanted(pod):
            found = manifests.beside(pod.owner, kind, name)
            if kind == "PriorityClass":
                found = next((o for o in manifests.of(kind) if o["metadata"]["name"] == name), None)
            if found is None:
                yield Finding(named(pod.owner), f"refers to {kind} {name}, which is not in this set")
            elif key is not None and key not in _keys(found):
                yield Finding(named(pod.owner), f"{kind} {name} has no key {key}")


def _wanted(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    spec = pod.spec
    for kind, name in (
        ("ServiceAccount", spec.get("serviceAccountName", "default")),
        ("PriorityClass", spec.get("priorityClassName", "")),
    ):
        if name and name != "default" and not name.startswith("system-"):
            yield kind, name, None
    for volume in parts(spec, "volumes"):
        yield from _wanted_by_volume(volume)
    for container in pod.containers:
        for variable in parts(container, "env"):
            yield from _wanted_by_source(part(variable, "valueFrom"), "configMapKeyRef", "secretKeyRef")
        for source in parts(container, "envFrom"):
            yield from _wanted_by_source(source, "configMapRef", "secretRef")


def _wanted_by_source(source: Manifest, config: str, secret: str) -> Iterator[tuple[str, str, str | None]]:
    for kind, field in (("ConfigMap", config), ("Secret", secret)):
        reference = part(source, field)
        if reference and not reference.get("optional"):
            yield kind, reference["name"], reference.get("key")


def _wanted_by_volume(volume: Manifest) -> Iterator[tuple[str, str, str | None]]:
    if "persistentVolumeClaim" in volume:
        yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], None
    for kind, source, field in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
        found = part(volume, source)
        if found and not found.get("optional"):
            yield kind, found[field], None
            for item in parts(found, "items"):
                yield kind, found[field], item["key"]


def _keys(o: Manifest) -> set[str]:
    return {key for field in ("data", "stringData", "binaryData") for key in part(o, field)}


RULES = (names, references)
