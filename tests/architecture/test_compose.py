"""What docker-compose.yml promises, read from the file: no Docker is needed. `make test-docker` runs it for real."""

import os
import re
import shutil
import subprocess
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


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_may_use_up_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"] == "${INPO_PIDS:-4096}"
    assert set(service["ulimits"]["nofile"]) == {"soft", "hard"}


def test_vllm_and_the_apis_have_keys_of_their_own() -> None:
    """Whoever breaks into the server that runs models finds no key of the APIs there."""
    mounts = {
        name: [str(volume).partition(":")[0] for volume in service.get("volumes", ())]
        for name, service in SERVICES.items()
    }
    for name in ("vllm", "vllm-gpu"):
        assert "vllm-key" in mounts[name]
        assert "keys" not in mounts[name]
    assert {name for name, volumes in mounts.items() if "vllm-key" in volumes} == {
        "vllm",
        "vllm-gpu",
        "policy",
        "policy-gpu",
        "keys",
    }
    for name in ("policy", "policy-gpu"):
        assert SERVICES[name]["environment"]["INPO_VLLM_API_KEY_FILE"] == "/vllm-key/key"


def test_runs_name_nothing_but_what_is_mounted_for_them() -> None:
    for name in ("controller", "oracle", "trainer", "trainer-gpu"):
        environment = SERVICES[name]["environment"]
        assert environment["INPO_ALLOWED_PATHS"] == '${INPO_ALLOWED_PATHS:-["/models", "/store"]}'
        assert environment["INPO_ALLOW_HUB"] == "${INPO_ALLOW_HUB:-false}"


def test_python_imports_nothing_from_the_folder_that_a_container_starts_in() -> None:
    for file in ("service.Dockerfile", "vllm-cpu.Dockerfile"):
        assert "PYTHONSAFEPATH=1" in (ROOT / "docker" / file).read_text()
    assert all(SERVICES[name]["environment"]["PYTHONSAFEPATH"] == "1" for name in ("vllm", "vllm-gpu"))


def test_vllm_shares_its_only_network_with_the_policy_worker_alone() -> None:
    """Its admin routes can run code: the network protects them, and a key behind it."""
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


def locked(name: str) -> dict[str, set[str]]:
    """A lock's requirements, each with the hashes of the files that it may be installed from."""
    found: dict[str, set[str]] = {}
    requirement = ""
    for line in (ROOT / "requirements" / f"{name}.lock").read_text().splitlines():
        text = line.removesuffix("\\").strip()
        if line.startswith(" "):
            found[requirement].add(text)
        else:
            requirement = text
            found[requirement] = set()
    return found


@pytest.mark.parametrize("lock", sorted(file.stem for file in (ROOT / "requirements").glob("*.lock")))
def test_only_files_whose_hash_is_in_the_lock_are_installed(lock: str) -> None:
    """But for the CPU build of torch, which is in an index of its own, and on closed machines in a folder."""
    requirements = locked(lock)
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+", requirement) for requirement in requirements)
    for requirement, hashes in requirements.items():
        assert bool(hashes) != requirement.endswith("+cpu"), requirement
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", found) for found in hashes)
    assert "--require-hashes" in (ROOT / "scripts" / "install-lock").read_text()


def test_one_command_pins_every_base_image_and_may_be_repeated(tmp_path: Path) -> None:
    """A registry is stood in for: `docker buildx imagetools inspect` answers with a digest made of the tag."""
    for name in ("docker", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    registry = tmp_path / "bin" / "docker"
    registry.parent.mkdir()
    registry.write_text('#!/bin/sh\necho "sha256:$(printf "%s" "$4" | sha256sum | cut -c1-64)"\n')
    registry.chmod(0o755)
    environment = {**os.environ, "PATH": f"{registry.parent}:{os.environ['PATH']}"}
    command = [str(tmp_path / "scripts" / "pin-images")]
    said = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in "12"]
    assert said[0] == said[1]
    texts = [file.read_text() for file in (tmp_path / "docker-compose.yml", *(tmp_path / "docker").iterdir())]
    named = re.findall(r"^(?: +image: |ARG BASE=)([^:\n]+:\S+)$", "\n".join(texts), re.MULTILINE)
    assert len(named) == 4
    assert all(re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", image) for image in named)
    assert set(named) == set(said[0].split())


@pytest.mark.parametrize("lock", ["controller", "oracle", "oracle-models", "policy", "trainer"])
def test_an_image_holds_the_versions_that_the_tests_ran_with(lock: str) -> None:
    """And `scripts/lock` was run after the last change: an image's lock is a part of the tested one."""
    tested, wanted = locked("cpu"), locked(lock)
    assert {name: tested[name] for name in wanted} == wanted


@pytest.mark.parametrize("lock", ["controller", "oracle", "policy"])
def test_the_images_of_controller_oracle_and_policy_worker_hold_no_torch(lock: str) -> None:
    names = {requirement.partition("==")[0] for requirement in locked(lock)}
    assert not names & {"torch", "vllm", "vllm-cpu", "deepspeed"}


def test_what_ends_is_started_again_except_what_runs_once() -> None:
    once = {name for name, service in SERVICES.items() if service["restart"] == "no"}
    assert once == {"keys", "demo-model"}
    assert all(SERVICES[name]["restart"] == "unless-stopped" for name in SERVICES.keys() - once)
