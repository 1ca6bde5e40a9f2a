"""Services, Ingresses and NetworkPolicies: that what they name is there."""

from collections.abc import Iterator

from k8s.check.manifests import Finding, Findings, Manifest, Manifests, Pod, named, part, parts

SERVICE_TYPES = {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}
PATH_TYPES = {"Exact", "Prefix", "ImplementationSpecific"}


def services(manifests: Manifests) -> Findings:
    """A Service selects pods that have the ports it names."""
    for o in manifests.of("Service"):
        spec, ports = o["spec"], parts(o, "spec", "ports")
        if spec.get("type", "ClusterIP") not in SERVICE_TYPES:
            yield Finding(named(o), f"type {spec['type']!r} does not exist")
        if len(ports) > 1 and not all(port.get("name") for port in ports):
            yield Finding(named(o), "several ports: each needs a name")
        if not spec.get("selector"):
            continue
        pods = manifests.selected(o, {"matchLabels": spec["selector"]})
        if not pods:
            yield Finding(named(o), "selects no pod of this set")
        for port in ports:
            target = port.get("targetPort", port["port"])
            if any(target not in _ports(pod) for pod in pods):
                yield Finding(named(o), f"targetPort {target!r} is no port of the selected pods")


def ingresses(manifests: Manifests) -> Findings:
    """An Ingress leads to Services and to ports that they have."""
    for o in manifests.of("Ingress"):
        rules = parts(o, "spec", "rules")
        if not rules and "defaultBackend" not in o["spec"]:
            yield Finding(named(o), "has neither rules nor a default backend")
        for path in (path for rule in rules for path in parts(rule, "http", "paths")):
            if path.get("pathType") not in PATH_TYPES:
                yield Finding(named(o), f"pathType {path.get('pathType')!r} does not exist")
            yield from _backend(manifests, o, part(path, "backend", "service"))


def _backend(manifests: Manifests, o: Manifest, backend: Manifest) -> Findings:
    service = manifests.beside(o, "Service", backend.get("name", ""))
    if service is None:
        yield Finding(named(o), f"backend service {backend.get('name')} is not in this set")
        return
    wanted = part(backend, "port")
    if not any(
        port["port"] == wanted.get("number") or (wanted.get("name") and port.get("name") == wanted["name"])
        for port in parts(service, "spec", "ports")
    ):
        yield Finding(named(o), f"service {backend['name']} has no port {wanted}")


def policies(manifests: Manifests) -> Findings:
    """A NetworkPolicy is about pods that exist; a rule names its peers, and ports that the pods have."""
    for o in manifests.of("NetworkPolicy"):
        spec = o["spec"]
        pods = manifests.selected(o, spec["podSelector"])
        if not pods:
            yield Finding(named(o), "podSelector matches no pod of this set")
        for component in _absent(manifests, o):
            yield Finding(named(o), f"names {component}, which no pod of this set is")
        for rule in parts(spec, "ingress"):
            if not rule.get("from"):
                yield Finding(named(o), "an ingress rule without `from` lets everybody in")
            for port in parts(rule, "ports"):
                if any(port.get("port") not in _ports(pod) for pod in pods):
                    yield Finding(named(o), f"port {port.get('port')!r} is no port of the selected pods")
        for rule in parts(spec, "egress"):
            if not rule.get("to") and not rule.get("ports"):
                yield Finding(named(o), "an egress rule without `to` and `ports` lets everything out")


def _absent(manifests: Manifests, o: Manifest) -> Iterator[object]:
    """What a policy says about our own pods and finds none of."""
    ours = "app.kubernetes.io/component"
    selectors = [part(o, "spec", "podSelector")]
    for side, peers in (("ingress", "from"), ("egress", "to")):
        for rule in parts(o, "spec", side):
            selectors += [part(peer, "podSelector") for peer in parts(rule, peers)]
    known = {pod.labels.get(ours) for pod in manifests.pods}
    for selector in selectors:
        wanted: list[object] = [value for name, value in part(selector, "matchLabels").items() if name == ours]
        for expression in parts(selector, "matchExpressions"):
            wanted += parts(expression, "values") if expression["key"] == ours else []
        yield from (value for value in wanted if value not in known)


def _ports(pod: Pod) -> set[str | int]:
    return {port[field] for port in pod.ports for field in ("containerPort", "name") if field in port}


RULES = (services, ingresses, policies)
