"""Objects that make pods: selectors, restarts, strategies, and volumes that several pods share."""

from k8s.check.manifests import Finding, Findings, Manifests, Pod, named, part, parts, selects

STANDING = {"Deployment", "StatefulSet", "DaemonSet"}
SHARED = {"ReadWriteMany", "ReadOnlyMany"}


def selectors(manifests: Manifests) -> Findings:
    """A workload selects the pods that it makes, and no other workload's."""
    for pod in manifests.pods:
        selector = pod.owner["spec"].get("selector")
        if pod.owner["kind"] not in STANDING or selector is None:
            continue
        if not selects(selector, pod.labels):
            yield Finding(named(pod.owner), "selector does not match the template's labels")
        for other in manifests.selected(pod.owner, selector):
            if other.owner is not pod.owner:
                yield Finding(named(pod.owner), f"selects the pods of {named(other.owner)} as well")


def restarts(manifests: Manifests) -> Findings:
    """What stands restarts always, what ends does not."""
    for pod in manifests.pods:
        policy = pod.spec.get("restartPolicy", "Always")
        if pod.owner["kind"] in ("Job", "CronJob") and policy == "Always":
            yield Finding(named(pod.owner), "restartPolicy must be Never or OnFailure")
        if pod.owner["kind"] in STANDING and policy != "Always":
            yield Finding(named(pod.owner), "restartPolicy must be Always")


def strategies(manifests: Manifests) -> Findings:
    """A strategy exists, has the options that it takes, and can go on."""
    for o in manifests.of("Deployment"):
        strategy = part(o, "spec", "strategy")
        rolling = part(strategy, "rollingUpdate")
        if strategy.get("type", "RollingUpdate") not in ("RollingUpdate", "Recreate"):
            yield Finding(named(o), f"strategy {strategy['type']!r} does not exist")
        if strategy.get("type") == "Recreate" and rolling:
            yield Finding(named(o), "strategy Recreate takes no rollingUpdate")
        if rolling and rolling.get("maxSurge") == 0 and rolling.get("maxUnavailable") == 0:
            yield Finding(named(o), "maxSurge and maxUnavailable are both 0: no update can begin")


def headless(manifests: Manifests) -> Findings:
    """A StatefulSet's Service exists and is headless."""
    for o in manifests.of("StatefulSet"):
        name = o["spec"].get("serviceName")
        service = manifests.beside(o, "Service", name) if name else None
        if name and service is None:
            yield Finding(named(o), f"serviceName {name} is not in this set")
        elif service is not None and service["spec"].get("clusterIP") != "None":
            yield Finding(named(o), f"service {name} is not headless")


def shared_claims(manifests: Manifests) -> Findings:
    """Pods that share a claim which one node alone can mount are told to go to one node."""
    users: dict[str, list[Pod]] = {}
    for pod in manifests.pods:
        for volume in parts(pod.spec, "volumes"):
            claim = part(volume, "persistentVolumeClaim").get("claimName", "")
            found = manifests.beside(pod.owner, "PersistentVolumeClaim", claim)
            if found and not SHARED & set(found["spec"]["accessModes"]):
                users.setdefault(claim, []).append(pod)
    for claim, pods in users.items():
        # Autoscaled workloads say no number; they may become many.
        several = len(pods) > 1 or pods[0].owner["spec"].get("replicas", 2) > 1
        for pod in pods:
            if several and pod.owner["kind"] != "Job" and not _together(pod):
                yield Finding(named(pod.owner), f"shares claim {claim}, which one node alone can mount")


def _together(pod: Pod) -> bool:
    terms = parts(pod.spec, "affinity", "podAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    return any(
        term["topologyKey"] == "kubernetes.io/hostname" and selects(term["labelSelector"], pod.labels) for term in terms
    )


RULES = (selectors, restarts, strategies, headless, shared_claims)
