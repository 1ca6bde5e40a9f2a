"""What is asked of a cluster, told by a kubectl that writes down what it is given."""

import json
import os
from pathlib import Path

import pytest

from k8s.check import chart
from k8s.check.chart import preset_values
from k8s.check.cluster import refusals
from tests.support.k8s_tools import needs_tools

pytestmark = needs_tools

KUBECTL = """\
#!/bin/sh
if [ "$1" = api-resources ]; then echo "deployments.apps $SERVED"; exit; fi
echo "$@" > "$ASKED.words"
cat > "$ASKED"
[ -z "$REFUSED" ] || { echo "$REFUSED" >&2; exit 1; }
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "helm").symlink_to(chart.TOOLS / "helm")
    (tools / "kubectl").write_text(KUBECTL)
    (tools / "kubectl").chmod(0o755)
    monkeypatch.setattr(chart, "TOOLS", tools)
    monkeypatch.setitem(os.environ, "ASKED", str(tmp_path / "asked"))
    return tmp_path / "asked"


def kinds(asked: Path) -> set[str]:
    return {o["kind"] for o in json.loads(asked.read_text())["items"]}


def test_the_cluster_is_asked_to_change_nothing_in_a_namespace_that_it_has(asked: Path) -> None:
    assert list(refusals({"demo": preset_values("demo")})) == []
    assert (asked.with_suffix(".words")).read_text().split()[:3] == ["apply", "--server-side", "--dry-run=server"]
    assert {o["metadata"].get("namespace") for o in json.loads(asked.read_text())["items"]} == {"default"}


def test_what_it_refuses_is_told_with_the_presets_name(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "denied by policy")
    [told] = refusals({"demo": preset_values("demo")})
    assert told.startswith("demo: ")
    assert "denied by policy" in told


def test_kinds_of_operators_that_it_lacks_are_left_out(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = {"multi-node": preset_values("multi-node")}
    assert list(refusals(presets)) == []
    without = kinds(asked)
    assert not without & {"ScaledObject", "TriggerAuthentication", "LeaderWorkerSet", "ServiceMonitor"}
    assert {"NetworkPolicy", "PriorityClass", "HorizontalPodAutoscaler", "Deployment"} <= without
    monkeypatch.setenv("SERVED", "leaderworkersets.leaderworkerset.x-k8s.io scaledobjects.keda.sh")
    assert list(refusals(presets)) == []
    assert kinds(asked) == without | {"LeaderWorkerSet", "ScaledObject"}
