"""The commands of docs/kubernetes.md, run as far as they can be without a cluster, or held against what is rendered."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from k8s.check.__main__ import plain
from k8s.check.chart import ROOT, TOOLS, Rendering, preset_values, presets, render, run
from k8s.check.manifests import Manifests
from k8s.check.rules import broken
from shared.contracts.spec import RunSpec
from tests.support.k8s_tools import needs_tools

pytestmark = needs_tools

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


def command(beginning: str) -> str:
    """A command of the page, without its number."""
    [found] = [line for line in PAGE.splitlines() if line.startswith(beginning)]
    return re.sub(r"\s+# \S+$", "", found)


@pytest.fixture(scope="module")
def demo() -> Manifests:
    return Manifests(render("demo", preset_values("demo")).objects)


def test_the_install_is_one_that_helm_takes_and_ends_by_naming_the_next_commands() -> None:
    told = run(*command("helm install").split(), "--dry-run=client")
    for next_one in ("kubectl port-forward", "KEY="):
        assert command(next_one) in told.replace(" -n default", "")
    assert re.sub(r"\s+", " ", command('curl -H "Authorization: Bearer $KEY" --json')) in told


def test_every_preset_is_on_the_page() -> None:
    assert set(re.findall(r"k8s/values-[\w-]+\.yaml", PAGE)) == {f"k8s/values-{name}.yaml" for name in presets()}


def test_the_images_that_are_loaded_are_those_that_the_demo_runs(demo: Manifests) -> None:
    loop = command("for i in")
    loaded = {f"inpo-{name}:v0.1.0" for name in loop.partition(" in ")[2].partition(";")[0].split()}
    assert loop.count("inpo-$i:v0.1.0") == 2
    assert loaded == {c["image"] for pod in demo.pods for c in pod.containers} - {"redis:7-alpine"}


def test_the_requests_find_the_service_the_key_and_the_model(demo: Manifests) -> None:
    forwarded = re.search(r"service/(\S+) (\d+):(\d+)", command("kubectl port-forward"))
    assert forwarded is not None
    [service] = [o for o in demo.of("Service") if o["metadata"]["name"] == forwarded[1]]
    assert int(forwarded[3]) in [port["port"] for port in service["spec"]["ports"]]

    [secret] = demo.of("Secret")
    assert f"secret {secret['metadata']['name']} -o jsonpath='{{.data.api}}'" in command("KEY=")
    assert len(base64.b64decode(secret["data"]["api"])) == 43

    post = re.search(r"@(\S+) http://127.0.0.1:(\d+)/v1/runs", command('curl -H "Authorization: Bearer $KEY" --json'))
    assert post is not None
    assert post[2] == forwarded[2]
    spec = RunSpec.model_validate(json.loads((ROOT / post[1]).read_bytes()))
    assert spec.model.path == preset_values("demo").get("model", {}).get("path", "/models/demo")


def test_the_manifests_and_the_secret_of_those_without_helm_belong_together(tmp_path: Path) -> None:
    made = subprocess.run(
        ["bash", "-c", command("kubectl -n inpo create secret") + " --dry-run=client -o yaml"],
        env={"PATH": f"{TOOLS}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    secret = yaml.safe_load(made.stdout)
    assert len(set(secret["data"].values())) == 3
    assert broken(Manifests([*Rendering("demo", plain("demo"), {}).objects, secret])) == []
    assert "make -s k8s-render PRESET=demo" in command("make -s k8s-render")


def test_what_the_page_names_exists() -> None:
    for path in re.findall(r"`((?:k8s|docker|examples)/[\w./-]+)`", PAGE):
        assert (ROOT / path).exists()
