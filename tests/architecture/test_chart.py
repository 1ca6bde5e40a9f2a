# redis-py leaves some parameters of its commands without a type.
# pyright: reportUnknownMemberType=false
"""The Helm chart says what the code says: settings, ports, users, queue, images. Else there is `make k8s-check`."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from k8s.check.chart import CHART, ROOT, preset_values, presets, render
from k8s.check.combinations import combinations
from k8s.check.manifests import Manifest, Manifests, Pod, parts
from services.cli.docs import SECTIONS
from services.cli.launcher.redis_server import find_redis_server, free_port, is_free
from services.controller.settings import ControllerSettings
from services.oracle.settings import OracleSettings
from services.policy.engines.vllm import serving
from services.policy.settings import PolicySettings
from shared.runtime.http.access import OPEN_PATHS
from shared.runtime.settings import Settings
from shared.store.queue.redis_queue import KINDS, RedisQueue
from tests.support.k8s_tools import needs_tools
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.work import done, work_item

pytestmark = needs_tools

SETTINGS = {f"INPO_{name.upper()}" for _, _, settings in SECTIONS for name in settings.model_fields}
# Settings that are being built: the services of today leave them aside.
AWAITED = {
    "INPO_TRAINER_LEADER",
    "INPO_TRAINER_NODE_RANK",
    "INPO_TRAINER_NUM_NODES",
}
PORTS = {"controller": ControllerSettings, "oracle": OracleSettings, "policy": PolicySettings}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


@pytest.fixture(scope="module")
def rendered() -> dict[str, Manifests]:
    values = {name: preset_values(name) for name in presets()} | combinations(6, seed=11)
    return {name: Manifests(render(name, given).objects) for name, given in values.items()}


@pytest.fixture(scope="module")
def demo(rendered: dict[str, Manifests]) -> dict[str, Pod]:
    return {pod.labels["app.kubernetes.io/component"]: pod for pod in rendered["demo"].pods}


def variables(pod: Pod) -> list[str]:
    return [variable["name"] for container in pod.containers for variable in parts(container, "env")]


def by_name(containers: list[Manifest], name: str) -> Manifest:
    return next(container for container in containers if container["name"] == name)


def test_every_setting_of_the_chart_is_one_of_the_services(rendered: dict[str, Manifests]) -> None:
    used = {name for manifests in rendered.values() for pod in manifests.pods for name in variables(pod)}
    assert {name for name in used if name.startswith("INPO_")} <= SETTINGS | AWAITED
    assert serving.PYTHON in (CHART / "templates" / "policy.yaml").read_text(encoding="utf-8")


def test_every_setting_that_the_values_name_is_one_of_the_services() -> None:
    texts = [file.read_text(encoding="utf-8") for file in [CHART / "values.yaml", *presets().values()]]
    assert {name for text in texts for name in re.findall(r"INPO_\w+", text)} <= SETTINGS | AWAITED


@pytest.mark.parametrize("service", PORTS)
def test_an_api_has_the_port_of_its_settings_and_is_watched_where_no_key_is_asked(
    service: str, demo: dict[str, Pod], rendered: dict[str, Manifests]
) -> None:
    port = PORTS[service].model_fields["port"].default
    container = by_name(demo[service].containers, service)
    assert [found["containerPort"] for found in container["ports"]] == [port]
    assert {"name": "INPO_PORT", "value": str(port)} in container["env"]
    [exposed] = [o for o in rendered["demo"].of("Service") if o["metadata"]["name"] == f"inpo-{service}"]
    assert [found["port"] for found in exposed["spec"]["ports"]] == [port]
    probes = [container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert probes == ["/healthz", "/healthz", "/readyz"]
    assert set(probes) <= OPEN_PATHS


def test_the_policy_worker_speaks_to_vllm_where_vllm_listens(demo: dict[str, Pod]) -> None:
    variables = demo["policy"].environment()
    arguments = by_name(demo["policy"].containers, "vllm")["args"]
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    assert variables["INPO_VLLM_URL"] == f"http://{options['host']}:{options['port']}"
    assert variables["INPO_VLLM_URL"] == PolicySettings.model_fields["vllm_url"].default
    assert int(options["port"]) == serving.ServerOptions(model=Path()).port


def test_our_containers_run_as_the_user_of_our_images(rendered: dict[str, Manifests]) -> None:
    [uid] = re.findall(r"useradd --uid (\d+)", (ROOT / "docker" / "service.Dockerfile").read_text(encoding="utf-8"))
    for pod in rendered["demo"].pods:
        if pod.labels["app.kubernetes.io/component"] != "redis":
            assert pod.spec["securityContext"]["runAsUser"] == int(uid)


def test_the_demo_is_what_compose_starts(demo: dict[str, Pod]) -> None:
    ours = {c["image"].partition(":")[0] for pod in demo.values() for c in pod.containers}
    composed = {
        COMPOSE[name]["image"].partition(":")[0]
        for name in ("controller", "oracle", "policy", "trainer", "vllm", "redis")
    }
    assert ours == composed
    assert demo["demo-model"].containers[0]["command"] == COMPOSE["demo-model"]["command"]
    assert demo["controller"].environment()["INPO_SERVED_MODEL"] == "/models/demo"


def test_the_released_images_carry_the_charts_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert project is not None
    assert (chart["version"], chart["appVersion"]) == (project[1], f"v{project[1]}")


def test_the_drain_is_that_of_the_settings(demo: dict[str, Pod]) -> None:
    drain_s = Settings.model_fields["drain_s"].default
    assert float(demo["trainer"].environment()["INPO_DRAIN_S"]) == drain_s
    assert demo["trainer"].spec["terminationGracePeriodSeconds"] > drain_s


def test_a_staging_folder_is_filled_to_nine_tenths(rendered: dict[str, Manifests]) -> None:
    pod = next(p for p in rendered["gpu"].pods if p.labels["app.kubernetes.io/component"] == "policy")
    assert int(pod.environment()["INPO_MAX_STAGED_BYTES"]) == 200 * 2**30 * 9 // 10


def test_keda_counts_what_waits_what_is_worked_on_and_what_is_due_later(
    rendered: dict[str, Manifests], redis_server: RedisServer, redis_url: str
) -> None:
    """KEDA measures a hash by HLEN. While any work is outstanding the workers stay, and then they go."""
    counted = {o["spec"]["triggers"][0]["metadata"]["listName"] for o in rendered["gpu"].of("ScaledObject")}
    assert counted == {f"inpo:{kind}:items" for kind in KINDS if kind != "train"}
    queue = RedisQueue(redis_url, consumer="one", lease_s=30.0)
    with redis_server.client() as client:

        def outstanding() -> object:
            return client.hlen("inpo:generate:items")

        queue.submit(work_item())
        assert outstanding() == 1
        claim = queue.claim(["generate"], wait_s=1.0)
        assert claim is not None
        assert outstanding() == 1
        queue.defer(claim, 0.2, "the judge is away")
        assert outstanding() == 1
        again = queue.claim(["generate"], wait_s=10.0)
        assert again is not None
        queue.complete(again, done(again.item))
        assert outstanding() == 0


def test_redis_asks_for_the_password_and_refuses_writes_when_it_is_full(demo: dict[str, Pod], tmp_path: Path) -> None:
    """The container's own command, with folders and a port of this machine."""
    binary, port = find_redis_server(), free_port()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(binary)
    *shell, script = demo["redis"].containers[0]["command"]
    script = script.replace("/tmp/", f"{tmp_path}/").replace("/data", str(tmp_path)) + f" --port {port}"
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "REDISCLI_AUTH": "secret",
        "MAX_MEMORY": demo["redis"].environment()["MAX_MEMORY"],
    }
    process = subprocess.Popen([*shell, script], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: not is_free(port), 20, f"Redis on port {port}")
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(port=port, password="secret", decode_responses=True) as client:
            wanted = {"maxmemory": str(400 * 2**20), "maxmemory-policy": "noeviction", "appendonly": "yes", "save": ""}
            assert {name: client.config_get(name)[name] for name in wanted} == wanted
        assert "secret" not in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        process.kill()
        process.wait()


def test_the_starter_that_the_sidecar_is_given_needs_nothing_but_python(demo: dict[str, Pod], tmp_path: Path) -> None:
    copied = by_name(demo["policy"].containers, "vllm-starter")["command"]
    [inside] = [word for word in copied if word.startswith("/app/")]
    words = [sys.executable if word == "python" else word.replace("/app/", f"{tmp_path}/") for word in copied]
    subprocess.run(words, check=True, cwd=ROOT)
    shown = subprocess.run(
        [sys.executable, "-S", "-m", inside.removeprefix("/app/").replace("/", ".") + ".serving", "--help"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    arguments = by_name(demo["policy"].containers, "vllm")["args"]
    assert all(argument.split("=")[0] in shown.stdout for argument in arguments)


def test_the_model_that_is_awaited_is_one_with_a_config(demo: dict[str, Pod], tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    command = by_name(demo["policy"].containers, "await-model")["command"]
    assert command[-1] == "/models/demo"
    subprocess.run([*command[:-1], str(tmp_path)], check=True, timeout=20)


def test_a_model_of_the_hub_is_fetched_to_where_vllm_starts_on_it(
    rendered: dict[str, Manifests], tmp_path: Path
) -> None:
    pods = {pod.labels["app.kubernetes.io/component"]: pod for pod in rendered["gpu"].pods}
    hub = "def snapshot_download(*words, **named): print(words, sorted(named.items()))"
    (tmp_path / "huggingface_hub.py").write_text(hub)
    command = by_name(pods["policy"].containers, "fetch-model")["command"]
    words = [sys.executable if word == "python" else word for word in command]
    told = subprocess.run(words, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "('Qwen/Qwen3-8B',) [('local_dir', '/models/policy'), ('revision', 'main')]"
    assert "--model=/models/policy" in by_name(pods["policy"].containers, "vllm")["args"]
    assert "INPO_SERVED_MODEL" not in pods["controller"].environment()  # it has no such folder to compare with
