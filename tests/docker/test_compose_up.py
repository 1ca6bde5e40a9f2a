"""`docker compose up` on a real Docker: `make test-docker`, never part of `make test`, because it builds images.

Everything runs under a project name, ports and volumes of its own, and is removed at the end.
"""

import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PORTS = {"INPO_PORT": "18000", "INPO_ORACLE_PORT": "18001", "INPO_POLICY_PORT": "18002"}
URL = "http://127.0.0.1:18000"
PROJECT = "inpo-test"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(os.environ.get("INPO_TEST_DOCKER") != "1", reason="run it by `make test-docker`"),
]


def compose(*arguments: str, **settings: str) -> str:
    """The output of a compose command of the test's own project; what it says when it fails."""
    environment = {**os.environ, **PORTS, "COMPOSE_PROFILES": "cpu", **settings}
    done = subprocess.run(
        ["docker", "compose", "-p", PROJECT, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"docker compose {' '.join(arguments)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def key() -> Generator[str]:
    """The bearer key of a system that came up from nothing."""
    compose("down", "--volumes", "--remove-orphans")
    compose("build")
    try:
        compose("up", "--wait", "--wait-timeout", "300")
        yield compose("exec", "-T", "controller", "cat", "/keys/api").strip()
    finally:
        compose("down", "--volumes", "--remove-orphans")


def api(key: str) -> httpx.Client:
    return httpx.Client(base_url=URL, headers={"Authorization": f"Bearer {key}"}, timeout=30.0, trust_env=False)


def wait_for_commits(key: str, run: str, num: int) -> dict[str, Any]:
    """The run's view once it has committed `num` iterations; fails with what the run says when it does not."""
    view: dict[str, Any] = {}

    def committed() -> bool:
        nonlocal view
        with api(key) as client:
            try:
                view = client.get(f"/v1/runs/{run}").raise_for_status().json()
                iterations = client.get(f"/v1/runs/{run}/iterations").raise_for_status().json()["iterations"]
            except httpx.TransportError:
                return False
        assert view["state"] not in ("failed", "cancelled"), view
        return sum(found["commit"] is not None for found in iterations if found["iteration"] > 0) >= num

    wait_until(committed, 300.0, f"{num} committed iterations of {run}")
    return view


def test_one_iteration_is_committed_on_vllm_and_a_restart_of_everything_goes_on(key: str) -> None:
    """The README's request; `down` keeps the volumes, so the next `up` finds the run where it was."""
    with api(key) as client:
        body = json.loads((ROOT / "examples" / "docker-demo.json").read_text())
        created = client.post("/v1/runs", json=body)
        assert created.status_code == 201, created.text
        run = created.json()["id"]
    wait_for_commits(key, run, 1)
    assert "swap" in compose("logs", "policy")
    compose("down")
    compose("up", "--wait", "--wait-timeout", "300")
    view = wait_for_commits(key, run, body["iterations"])
    assert view["state"] in ("running", "succeeded")


def test_an_iteration_is_committed_where_vllm_serves_in_bfloat16(key: str) -> None:
    """No setting but vLLM's own: what the canary allows follows from what the server says that it computes in."""
    compose("up", "--wait", "--wait-timeout", "300", INPO_VLLM_OPTIONS="--dtype bfloat16")
    with api(key) as client:
        body = json.loads((ROOT / "examples" / "docker-demo.json").read_text())
        created = client.post("/v1/runs", json={**body, "name": "docker-bfloat16", "iterations": 1})
        assert created.status_code == 201, created.text
    wait_for_commits(key, created.json()["id"], 1)
    assert "dtype=torch.bfloat16" in compose("logs", "vllm")
    compose("up", "--wait", "--wait-timeout", "300")


@pytest.mark.parametrize("url", [f"http://127.0.0.1:{port}/metrics" for port in PORTS.values()])
def test_without_a_key_nothing_is_answered(key: str, url: str) -> None:
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Bearer wrong"}, trust_env=False).status_code == 401
    assert httpx.get(url, headers={"Authorization": f"Bearer {key}"}, trust_env=False).status_code == 200


@pytest.mark.parametrize(("service", "port"), [("vllm", 8000), ("redis", 6379)])
def test_vllm_and_redis_cannot_be_reached_from_outside(key: str, service: str, port: int) -> None:
    """Neither from the host nor from the network where judges are called."""
    container: dict[str, Any] = json.loads(compose("ps", "--format", "json", service))
    published: list[dict[str, int]] = container["Publishers"] or []
    assert all(publisher["PublishedPort"] == 0 for publisher in published)
    network = f"{PROJECT}_front"
    probe = [
        "docker",
        "run",
        "--rm",
        "--network",
        network,
        "inpo-controller",
        "python",
        "-c",
        PROBE,
        service,
        str(port),
    ]
    stranger = subprocess.run(probe, capture_output=True, text=True, check=False)
    assert stranger.stdout.startswith("unreachable"), stranger.stdout + stranger.stderr


PROBE = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("reached")
except OSError as error:
    print("unreachable:", error)
"""


def test_every_container_is_unprivileged_and_read_only(key: str) -> None:
    for name in ("controller", "oracle", "policy", "trainer", "vllm"):
        identity = compose("exec", "-T", name, "id", "-u").strip()
        assert identity == "10001", (name, identity)
        writable = compose("exec", "-T", name, "sh", "-c", "touch /x 2>/dev/null && echo yes || echo no").strip()
        assert writable == "no", name
