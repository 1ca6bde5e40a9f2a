"""Faults that people make in manifests, each seeded into a preset that is right: every one of them is found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from k8s.check.chart import beside, preset_values, presets, render
from k8s.check.checking import in_each
from k8s.check.manifests import Manifest
from tests.support.k8s_tools import needs_tools

pytestmark = [needs_tools, pytest.mark.timeout(600), pytest.mark.xdist_group("k8s-faults")]

Objects = list[Manifest]
Fault = Callable[[Objects], None]


def the(objects: Objects, kind: str, name: str) -> Manifest:
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == f"inpo-{name}".removesuffix("-"))


def pod(objects: Objects, name: str, kind: str = "Deployment") -> Manifest:
    return the(objects, kind, name)["spec"]["template"]["spec"]


def container(objects: Objects, name: str) -> Manifest:
    return pod(objects, name)["containers"][0]


def sidecar(objects: Objects) -> Manifest:
    return next(c for c in pod(objects, "policy")["initContainers"] if c["name"] == "vllm")


def put(target: Callable[[Objects], Manifest], **fields: Any) -> Fault:
    """Sets fields of what `target` finds; `None` takes one away."""

    def seeded(objects: Objects) -> None:
        found = target(objects)
        for name, value in fields.items():
            if value is None:
                del found[name]
            else:
                found[name] = value

    return seeded


def without(kind: str, name: str) -> Fault:
    return lambda objects: objects.remove(the(objects, kind, name))


def spec(kind: str, name: str) -> Callable[[Objects], Manifest]:
    return lambda objects: the(objects, kind, name)["spec"]


def another(kind: str, name: str) -> Fault:
    def seeded(objects: Objects) -> None:
        twin = copy.deepcopy(the(objects, kind, name))
        twin["metadata"]["name"] += "-2"
        objects.append(twin)

    return seeded


# preset, what is said, the fault
FAULTS: dict[str, tuple[str, str, Fault]] = {
    "a field that does not exist": ("demo", "replica", put(spec("Deployment", "trainer"), replica=2)),
    "a number as text": ("demo", "replicas", put(spec("Deployment", "trainer"), replicas="1")),
    "no selector": ("demo", "selector", put(spec("Deployment", "trainer"), selector=None)),
    "a variable that is a number": (
        "demo",
        "env",
        lambda o: container(o, "controller")["env"].append({"name": "INPO_LEASE_S", "value": 30}),
    ),
    "an unknown kind": ("demo", "Couldn't find schema", lambda o: the(o, "Service", "oracle").update(kind="Srvice")),
    "an API that was removed": (
        "gpu",
        "Couldn't find schema",
        lambda o: the(o, "HorizontalPodAutoscaler", "oracle").update(apiVersion="autoscaling/v2beta2"),
    ),
    "an unknown field of a ScaledObject": (
        "gpu",
        "minReplicas",
        put(spec("ScaledObject", "policy"), minReplicas=0),
    ),
    "an unknown field in the pods of a LeaderWorkerSet": (
        "multi-node",
        "hostNetworks",
        lambda o: the(o, "LeaderWorkerSet", "trainer")["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"].update(
            hostNetworks=True
        ),
    ),
    "a name that is not allowed": (
        "demo",
        "name is not allowed",
        lambda o: the(o, "ServiceAccount", "").get("metadata", {}).update(name="INPO"),
    ),
    "an object declared twice": (
        "demo",
        "declared twice",
        lambda o: o.append(copy.deepcopy(the(o, "Service", "oracle"))),
    ),
    "a selector that matches nothing": (
        "demo",
        "does not match the template's labels",
        put(spec("Deployment", "oracle"), selector={"matchLabels": {"app": "oracle"}}),
    ),
    "two workloads that select one another's pods": ("demo", "as well", another("Deployment", "oracle")),
    "a quantity that is none": (
        "demo",
        "is no quantity",
        lambda o: container(o, "oracle")["resources"]["limits"].update(memory="2 GB"),
    ),
    "a request above its limit": (
        "demo",
        "above the limit",
        lambda o: container(o, "oracle")["resources"]["requests"].update(memory="4Gi"),
    ),
    "a GPU without a limit": (
        "gpu",
        "requested without a limit",
        lambda o: sidecar(o)["resources"]["limits"].pop("nvidia.com/gpu"),
    ),
    "a mount of a volume that is not there": (
        "demo",
        "is no volume of the pod",
        lambda o: container(o, "trainer")["volumeMounts"].append({"name": "data", "mountPath": "/data"}),
    ),
    "a probe of a port that is not there": (
        "demo",
        "names no port",
        lambda o: container(o, "policy")["readinessProbe"]["httpGet"].update(port="web"),
    ),
    "no liveness probe": ("demo", "serves without", put(lambda o: container(o, "policy"), livenessProbe=None)),
    "an image of any version": (
        "demo",
        "no fixed tag",
        put(lambda o: container(o, "oracle"), image="inpo-oracle:latest"),
    ),
    "Recreate with options": (
        "demo",
        "takes no rollingUpdate",
        put(spec("Deployment", "trainer"), strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
    ),
    "a Job that restarts for ever": (
        "demo",
        "Never or OnFailure",
        lambda o: next(j for j in o if j["kind"] == "Job")["spec"]["template"]["spec"].pop("restartPolicy"),
    ),
    "a Secret that is not there": ("demo", "refers to Secret inpo-keys", without("Secret", "keys")),
    "a key that the Secret lacks": ("demo", "has no key vllm", lambda o: the(o, "Secret", "keys")["data"].pop("vllm")),
    "a claim that is not there": (
        "demo",
        "PersistentVolumeClaim inpo-store",
        without("PersistentVolumeClaim", "store"),
    ),
    "pods of several nodes on a claim of one": (
        "demo",
        "which one node alone can mount",
        lambda o: pod(o, "trainer").pop("affinity"),
    ),
    "a Service of a port that no pod has": (
        "demo",
        "is no port of the selected pods",
        lambda o: the(o, "Service", "policy")["spec"]["ports"][0].update(targetPort="web"),
    ),
    "a Service with a head for a StatefulSet": (
        "demo",
        "is not headless",
        lambda o: the(o, "Service", "redis")["spec"].pop("clusterIP"),
    ),
    "an autoscaler of what sets replicas itself": (
        "gpu",
        "undoes the autoscaler",
        put(spec("Deployment", "policy"), replicas=1),
    ),
    "two autoscalers of one workload": ("gpu", "two autoscalers", another("ScaledObject", "policy")),
    "an autoscaler whose least is above its most": (
        "gpu",
        "is above the most",
        put(spec("ScaledObject", "policy"), minReplicaCount=9),
    ),
    "a password for KEDA that is not there": (
        "gpu",
        "refers to TriggerAuthentication",
        without("TriggerAuthentication", "redis"),
    ),
    "a budget that blocks every drain": (
        "demo",
        "no node can ever be drained",
        put(spec("PodDisruptionBudget", "trainer"), minAvailable=1, maxUnavailable=None),
    ),
    "a policy that lets everybody in": (
        "demo",
        "lets everybody in",
        lambda o: the(o, "NetworkPolicy", "redis")["spec"]["ingress"][0].pop("from"),
    ),
    "no policy that denies": ("demo", "no policy denies", without("NetworkPolicy", "deny")),
    "a pod that runs as root": (
        "demo",
        "runs as root",
        lambda o: pod(o, "oracle")["securityContext"].update(runAsUser=0),
    ),
    "a root that can be written to": (
        "demo",
        "can write to its root",
        lambda o: sidecar(o)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    "a token in a pod": (
        "demo",
        "service account's token",
        lambda o: pod(o, "controller").pop("automountServiceAccountToken"),
    ),
    "vLLM on the network": ("demo", "vLLM can be reached", lambda o: sidecar(o)["args"].append("--host=0.0.0.0")),
    "a pod that is killed before its drain is over": (
        "demo",
        "before its drain",
        lambda o: pod(o, "policy").update(terminationGracePeriodSeconds=25),
    ),
}


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What is found in the presets, right and with each fault; all at once, because a check takes seconds."""
    right: dict[str, Objects] = {}
    for name in presets():
        values = {**preset_values(name), "podDisruptionBudgets": True}
        right[name] = [*render(name, values).objects, *beside(values)]
    sets = dict(right)
    for name, (preset, _, seed) in FAULTS.items():
        sets[name] = copy.deepcopy(right[preset])
        seed(sets[name])
    return {name: "\n".join(map(str, findings)) for name, findings in in_each(sets).items()}


@pytest.mark.parametrize("preset", presets())
def test_nothing_is_found_in_a_preset(preset: str, found: dict[str, str]) -> None:
    assert found[preset] == ""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_said(fault: str, found: dict[str, str]) -> None:
    assert FAULTS[fault][1] in found[fault]


def test_thirty_faults_and_more_are_seeded() -> None:
    assert len(FAULTS) >= 30
