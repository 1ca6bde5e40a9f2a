"""Values that an install may be given, drawn by a seed: every switch both ways, together with every other."""

import random

from k8s.check.chart import Values

ANYBODY = {"namespaceSelector": {"matchLabels": {"any": "body"}}}


def combinations(num: int, seed: int) -> dict[str, Values]:
    """Valid values by name, as many as asked for, the same for the same seed."""
    return {f"combination {number}": combination(random.Random(f"{seed}/{number}")) for number in range(num)}  # noqa: S311


def combination(chance: random.Random) -> Values:
    """One of them."""
    shared = chance.random() < 0.5
    nodes = chance.choice([1, 1, 2, 4]) if shared else 1
    split, flip = chance.random() < 0.5, lambda: chance.random() < 0.5
    return {
        **_volumes(chance, shared=shared),
        "redis": _redis(chance),
        "keys": {"existingSecret": chance.choice(["", "my-keys"])},
        "image": {
            "registry": chance.choice(["", "ghcr.io/me", "registry:5000/team"]),
            "tag": chance.choice(["", "v9"]),
        },
        "queueNamespace": chance.choice(["", "ours"]),
        "allowHub": flip(),
        "drainSeconds": chance.choice([0, 20, 600]),
        "oracle": {"split": split, "replicas": chance.randint(1, 3), "apiReplicas": chance.randint(1, 3)},
        "policy": {"engine": chance.choice(["vllm", "vllm", "transformers"]), "replicas": chance.randint(1, 3)},
        "vllm": {"gpus": chance.choice([0, 1, 8]), "options": chance.choice([[], ["--enforce-eager"]])},
        "trainer": _trainer(chance, nodes),
        "priorityClasses": {"create": flip()},
        "podDisruptionBudgets": flip(),
        "networkPolicy": {"enabled": flip(), "clients": [ANYBODY] if flip() else []},
        "autoscaling": {"api": {"enabled": split and flip()}, "keda": {"enabled": flip()}},
        "ingress": _ingress(chance),
        "metrics": {"serviceMonitor": flip()},
    }


def _volumes(chance: random.Random, *, shared: bool) -> Values:
    mode = "ReadWriteMany" if shared else chance.choice(["ReadWriteOnce", "ReadWriteMany"])
    store = {"kind": "claim", "claim": {"accessMode": mode, "existing": chance.choice(["", "my-store"])}}
    if chance.random() < 0.5:
        staging = {"medium": chance.choice(["disk", "memory"]), "size": chance.choice(["512Mi", "20Gi", "2Ti"])}
        secret = chance.choice(["", "my-bucket"])
        url = chance.choice(["s3://bucket/prefix", "gs://bucket", "az://container/prefix"])
        store = {"kind": "object", "object": {"url": url, "credentialsSecret": secret, "staging": staging}}
    model = chance.choice(
        [
            {"hub": {"id": "org/name", "revision": "main"}, "tokenSecret": chance.choice(["", "my-hub"])},
            {"claim": {"accessMode": mode, "existing": chance.choice(["", "my-models"])}},
            {"claim": {"accessMode": mode}, "demo": True},
        ]
    )
    return {"store": store, "model": model}


def _redis(chance: random.Random) -> Values:
    return chance.choice(
        [
            {"enabled": True},
            {"enabled": False, "url": "redis://redis:6379/0", "address": "redis:6379"},
            {"enabled": False, "existingSecret": "my-redis", "address": "redis:6379", "tls": True},
        ]
    )


def _trainer(chance: random.Random, nodes: int) -> Values:
    strategy = chance.choice(["fsdp2", "deepspeed"] if nodes > 1 else ["single", "fsdp2", "deepspeed"])
    processes = 1 if strategy == "single" else chance.choice([1, 8])
    return {
        "nodes": nodes,
        "strategy": strategy,
        "processes": processes,
        "gpus": chance.choice([0, processes]),
        "keepCheckpoints": chance.random() < 0.5,
        "env": {"INPO_TRAINER_GRADIENT_CHECKPOINTING": "true"},
    }


def _ingress(chance: random.Random) -> Values:
    hosts = {api: chance.choice(["", f"{api}.example.com"]) for api in ("oracle", "policy")}
    return {
        "enabled": chance.random() < 0.5,
        "tlsSecret": chance.choice(["", "my-certificate"]),
        "hosts": {"controller": "inpo.example.com", **hosts},
    }
