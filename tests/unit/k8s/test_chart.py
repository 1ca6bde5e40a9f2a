"""Values that an install may be given, and those that are refused before anything is applied."""

from typing import Any

import pytest

from k8s.check.__main__ import plain
from k8s.check.chart import ChartError, Values, preset_values, render
from k8s.check.combinations import combinations
from k8s.check.manifests import Manifests
from tests.support.k8s_tools import needs_tools

pytestmark = needs_tools

REFUSED: dict[str, tuple[Values, str]] = {
    "a value that does not exist": ({"policy": {"replica": 2}}, "'replica' not allowed"),
    "a size that is none": ({"store": {"claim": {"size": "20 GB"}}}, "/store/claim/size"),
    "an address that is none": ({"store": {"kind": "object", "object": {"url": "bucket"}}}, "/store/object/url"),
    "a bucket without an address": ({"store": {"kind": "object"}}, "set store.object.url"),
    "no Redis at all": ({"redis": {"enabled": False}}, "set redis.existingSecret"),
    "an autoscaler that cannot find Redis": (
        {"redis": {"enabled": False, "url": "redis://r:6379"}, "autoscaling": {"keda": {"enabled": True}}},
        "set redis.address",
    ),
    "several nodes on a claim of one": ({"trainer": {"nodes": 2}}, "claims must be ReadWriteMany"),
    "several processes of a single one": ({"trainer": {"strategy": "single", "processes": 8}}, "must be fsdp2"),
    "an API to scale that stands not alone": ({"autoscaling": {"api": {"enabled": True}}}, "set oracle.split"),
    "a hub's model without a revision": ({"model": {"hub": {"id": "org/name"}}}, "revision"),
    "a model elsewhere": ({"model": {"path": "/data/model"}}, "/model/path"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_values_that_cannot_work_are_refused_with_what_to_do(why: str) -> None:
    values, said = REFUSED[why]
    with pytest.raises(ChartError, match=said):
        render(why, values)


def test_plain_manifests_hold_no_key_and_name_the_secret_that_is_wanted() -> None:
    """A rendering that made keys would change them with every `kubectl apply`."""
    text = plain("demo")
    assert "kind: Secret" not in text
    assert "secretName: inpo-keys" in text


def test_an_install_makes_keys_and_keeps_them() -> None:
    [secret] = Manifests(render("demo", preset_values("demo")).objects).of("Secret")
    assert set(secret["data"]) == {"api", "vllm", "redis"}
    assert len(set(secret["data"].values())) == 3
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_two_installs_in_one_namespace_share_no_name() -> None:
    def names(release: str) -> set[tuple[str, str]]:
        objects = render(release, preset_values("demo"), release=release).objects
        return {(o["kind"], o["metadata"]["name"]) for o in objects}

    assert not names("inpo") & names("second")


def test_what_is_drawn_is_drawn_again_from_the_same_seed_and_tries_every_switch() -> None:
    drawn = combinations(20, seed=3)
    assert drawn == combinations(20, seed=3)
    assert drawn != combinations(20, seed=4)

    def both(*path: str) -> set[Any]:
        found: list[Any] = []
        for values in drawn.values():
            value: Any = values
            for step in path:
                value = value[step]
            found.append(value)
        return set(found)

    assert both("oracle", "split") == both("networkPolicy", "enabled") == {True, False}
    assert both("store", "kind") == {"claim", "object"}
    assert both("policy", "engine") == {"vllm", "transformers"}
    assert max(both("trainer", "nodes")) > 1
