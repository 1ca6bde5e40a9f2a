"""What the doctor finds on the machine itself."""

import json
from pathlib import Path

import pytest

from services.cli.doctor import host
from services.cli.doctor.machine import Disk
from services.cli.doctor.rows import GIB, Row, lacking
from tests.support.fake_machine import EVERY_PACKAGE, PLACES, FakeMachine, row

H100 = {"name": "NVIDIA H100 80GB HBM3", "memory": 80 * GIB, "bf16": True}


def torch_says(*gpus: object, version: str = "2.13.0") -> dict[str, str]:
    return {"import json, torch": json.dumps({"version": version, "gpus": gpus})}


def without(name: str) -> dict[str, str]:
    return {package: version for package, version in EVERY_PACKAGE.items() if package != name}


def test_a_checkout_names_its_commit_and_an_installed_package_has_none(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    checkout = FakeMachine(root=tmp_path, programs={"describe": "3adfef3, changed"})
    assert host.inpo(checkout, PLACES) == [Row("inpo", "1.0, commit 3adfef3, changed")]
    assert host.inpo(FakeMachine(), PLACES) == [Row("inpo", "1.0")]


def test_a_checkout_without_git_says_why_the_commit_is_unknown(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert "unknown (No such file" in host.inpo(FakeMachine(root=tmp_path), PLACES)[0].found


@pytest.mark.parametrize(("version", "missing"), [("3.10.14", ["python"]), ("3.11.0", []), ("3.13.1", [])])
def test_python_must_be_new_enough(version: str, missing: list[str]) -> None:
    machine = FakeMachine()
    machine.python_version = version
    assert lacking(host.python(machine, PLACES)) == missing


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (frozenset({"avx512_bf16", "amx_bf16", "avx2"}), "bf16 by amx_bf16, avx512_bf16"),
        (frozenset({"avx2"}), "bf16 emulated"),
        (None, "bf16 unknown"),
    ],
)
def test_the_processor_says_whether_it_computes_in_bf16(flags: frozenset[str] | None, said: str) -> None:
    assert row(host.processor(FakeMachine(flags=flags), PLACES), "cpu").found == f"2 cores, {said}"


def test_every_gpu_that_torch_sees_has_its_row() -> None:
    old = {"name": "Tesla T4", "memory": 15 * GIB, "bf16": False}
    programs = {**torch_says(H100, old), "nvidia-smi": "NVIDIA H100 80GB HBM3, 580.65.06\nTesla T4, 580.65.06"}
    assert host.torch(FakeMachine(programs=programs), PLACES) == [
        Row("torch", "2.13.0"),
        Row("cuda:0", "NVIDIA H100 80GB HBM3, 80.0 GiB, driver 580.65.06, bf16"),
        Row("cuda:1", "Tesla T4, 15.0 GiB, driver 580.65.06, no bf16: float32 only"),
    ]


def test_a_gpu_that_this_torch_cannot_see_comes_with_the_torch_that_can() -> None:
    programs = {**torch_says(version="2.13.0+cpu"), "nvidia-smi": "Tesla T4, 580.65.06"}
    found = row(host.torch(FakeMachine(programs=programs), PLACES), "gpu")
    assert found.found == "Tesla T4 (driver 580.65.06), which torch 2.13.0+cpu does not see"
    assert found.remedy.endswith("torch==2.13.0")


def test_no_gpu_is_no_fault() -> None:
    assert lacking(host.torch(FakeMachine(programs=torch_says()), PLACES)) == []


@pytest.mark.parametrize("said", [None, "no report", ""])
def test_a_torch_that_does_not_load_is_a_finding(said: str | None) -> None:
    programs = {} if said is None else {"import json, torch": said}
    [found] = host.torch(FakeMachine(programs=programs), PLACES)
    assert (found.state, found.found[:35]) == ("missing", "1.0 is installed and does not load:")


def test_a_torch_that_is_not_installed_is_not_imported() -> None:
    machine = FakeMachine(packages=without("torch"))
    assert lacking(host.torch(machine, PLACES)) == ["torch"]
    assert machine.asked == []


@pytest.mark.parametrize(("name", "state"), [("fastapi", "missing"), ("deepspeed", "optional")])
def test_a_package_is_missing_only_where_everybody_needs_it(name: str, state: str) -> None:
    found = row(host.packages(FakeMachine(packages=without(name)), PLACES), name)
    assert found.state == state
    assert "make setup" in found.remedy


@pytest.mark.parametrize(
    ("disk", "missing"),
    [
        (Disk(free=2 * GIB, writable=True), []),
        (Disk(free=GIB // 2, writable=True), ["store"]),
        (Disk(free=2 * GIB, writable=False), ["store"]),
    ],
)
def test_the_store_needs_room_and_the_right_to_write(disk: Disk, missing: list[str]) -> None:
    assert lacking(host.disks(FakeMachine(disk=disk), PLACES)) == missing


def test_the_shared_memory_of_a_container_by_default_is_too_little() -> None:
    found = row(host.disks(FakeMachine(disk=Disk(free=64 * 2**20, writable=True)), PLACES), "shared memory")
    assert found.state == "optional"
    assert "docker run --shm-size" in found.remedy


def test_only_linux_has_shared_memory_as_a_folder() -> None:
    machine = FakeMachine()
    machine.system = "Darwin"
    assert [found.name for found in host.disks(machine, PLACES)] == ["store"]
