"""Autoscalers and disruption budgets: that they do not work against what they are about."""

from collections import Counter

from k8s.check.manifests import Finding, Findings, Manifest, Manifests, named, part, parts


def autoscalers(manifests: Manifests) -> Findings:
    """An autoscaler's target is there, says no number of replicas itself, and has one autoscaler."""
    targets = Counter(_target(o) for o in manifests.of("HorizontalPodAutoscaler", "ScaledObject"))
    for o in manifests.of("HorizontalPodAutoscaler", "ScaledObject"):
        kind, name = _target(o)
        target = manifests.beside(o, kind, name)
        if target is None:
            yield Finding(named(o), f"target {kind}/{name} is not in this set")
        elif "replicas" in target["spec"]:
            yield Finding(named(o), "the target sets replicas itself: every apply undoes the autoscaler")
        if targets[kind, name] > 1:
            yield Finding(named(o), f"{kind}/{name} has two autoscalers")
        least, most = _bounds(o)
        if least > most:
            yield Finding(named(o), f"the least, {least}, is above the most, {most}")


def budgets(manifests: Manifests) -> Findings:
    """A budget is about pods that exist, and leaves a drain of a node something to evict."""
    for o in manifests.of("PodDisruptionBudget"):
        spec = o["spec"]
        if ("minAvailable" in spec) == ("maxUnavailable" in spec):
            yield Finding(named(o), "needs one of minAvailable and maxUnavailable")
        if str(spec.get("maxUnavailable", 1)) in ("0", "0%") or str(spec.get("minAvailable")) == "100%":
            yield Finding(named(o), "no node can ever be drained")
        pods = manifests.selected(o, part(spec, "selector"))
        if not pods:
            yield Finding(named(o), "selects no pod of this set")
        least = spec.get("minAvailable")
        for pod in pods:
            replicas = pod.owner["spec"].get("replicas", 1)
            if isinstance(least, int) and least >= replicas:
                yield Finding(named(o), f"minAvailable {least} of {replicas}: no node can ever be drained")


def triggers(manifests: Manifests) -> Findings:
    """A ScaledObject's credentials are there."""
    for o in manifests.of("ScaledObject"):
        for trigger in parts(o, "spec", "triggers"):
            name = part(trigger, "authenticationRef").get("name")
            if name and manifests.beside(o, "TriggerAuthentication", name) is None:
                yield Finding(named(o), f"refers to TriggerAuthentication {name}, which is not in this set")
    for o in manifests.of("TriggerAuthentication"):
        for reference in parts(o, "spec", "secretTargetRef"):
            secret = manifests.beside(o, "Secret", reference["name"])
            if secret is None or reference["key"] not in {*part(secret, "data"), *part(secret, "stringData")}:
                yield Finding(named(o), f"Secret {reference['name']} with {reference['key']} is not in this set")


def _target(o: Manifest) -> tuple[str, str]:
    reference = o["spec"]["scaleTargetRef"]
    return reference.get("kind", "Deployment"), reference["name"]


def _bounds(o: Manifest) -> tuple[int, int]:
    spec = o["spec"]
    if o["kind"] == "ScaledObject":
        return spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    return spec.get("minReplicas", 1), spec["maxReplicas"]


RULES = (autoscalers, budgets, triggers)
