"""What our chart promises beyond what a cluster asks for: Pod security "restricted", no tokens, a drain that fits."""

from collections.abc import Iterator
from typing import Any

from k8s.check.manifests import Finding, Findings, Manifest, Manifests, named, part, parts, selects

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
LOOPBACK_ONLY = 8010  # vLLM's port: whoever reaches it can run code


def restricted(manifests: Manifests) -> Findings:
    """The standard `restricted`, a root that cannot be written to, and no token."""
    for pod in manifests.pods:
        for what in _pod(pod.spec):
            yield Finding(named(pod.owner), what)
        for container in pod.containers:
            for what in _container(container):
                yield Finding(named(pod.owner), f"container {container['name']}: {what}")


def _pod(spec: Manifest) -> Iterator[str]:
    context = part(spec, "securityContext")
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        yield "runs as root"
    if part(context, "seccompProfile").get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "mounts a service account's token"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is set"
    for volume in parts(spec, "volumes"):
        if not set(volume) <= VOLUMES | {"name"}:
            yield f"volume {volume['name']} is of a kind that is not allowed"


def _container(c: Manifest) -> Iterator[str]:
    context = part(c, "securityContext")
    capabilities = part(context, "capabilities")
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield "may gain rights"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "can write to its root"
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "keeps capabilities"
    if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
        yield "runs as root"
    if any("hostPort" in port for port in parts(c, "ports")):
        yield "takes a port of the node"


def drains(manifests: Manifests) -> Findings:
    """A pod is given longer to end than its last requests and its drain take."""
    for pod in manifests.pods:
        drain = pod.environment().get("INPO_DRAIN_S")
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        if drain is not None and grace <= float(drain) + max(map(_pre_stop_s, pod.serving)):
            yield Finding(named(pod.owner), f"is killed after {grace} s, before its drain of {drain} s is over")


def _pre_stop_s(c: Manifest) -> float:
    command: list[Any] = parts(c, "lifecycle", "preStop", "exec", "command")
    return float(command[1]) if command[:1] == ["sleep"] else 0.0


def watched(manifests: Manifests) -> Findings:
    """Whatever serves on a port has all three probes."""
    for pod in manifests.pods:
        for container in pod.serving:
            missing = {"startupProbe", "livenessProbe", "readinessProbe"} - set(container)
            if container.get("ports") and missing:
                yield Finding(named(pod.owner), f"container {container['name']} serves without {sorted(missing)}")


def walled(manifests: Manifests) -> Findings:
    """Where there are policies, one of them denies everything to every pod."""
    policies = manifests.of("NetworkPolicy")
    for pod in manifests.pods if policies else []:
        if not any(_denies(o) and selects(part(o, "spec", "podSelector"), pod.labels) for o in policies):
            yield Finding(named(pod.owner), "no policy denies what is not allowed")


def on_loopback(manifests: Manifests) -> Findings:
    """Nobody but the policy worker beside it reaches vLLM."""
    for pod in manifests.pods:
        arguments: list[Any] = [word for c in pod.containers if c["name"] == "vllm" for word in parts(c, "args")]
        elsewhere = [word for word in arguments if word.startswith("--host=") and word != "--host=127.0.0.1"]
        if elsewhere or any(port["containerPort"] == LOOPBACK_ONLY for port in pod.ports):
            yield Finding(named(pod.owner), "vLLM can be reached from outside the pod")


def _denies(o: Manifest) -> bool:
    spec = o["spec"]
    both = set(spec.get("policyTypes", [])) == {"Ingress", "Egress"}
    return both and not spec.get("ingress") and not spec.get("egress")


RULES = (restricted, drains, watched, walled, on_loopback)
