"""The machine itself: INPO, Python and its packages, processor, accelerators, disks."""

import json
from pathlib import Path
from typing import Any

from services.cli.doctor.machine import Machine, UnansweredError
from services.cli.doctor.rows import GIB, Places, Row, gib

OLDEST_PYTHON = (3, 11)
TORCH_S = 30.0  # a first import from a slow disk
LEAST_STORE = 1 * GIB
LEAST_SHM = GIB // 4
SHM = Path("/dev/shm")  # noqa: S108  (looked at, never written to)

REQUIRED = (
    "numpy", "pydantic", "pyarrow", "redis", "structlog", "fastapi", "uvicorn", "httpx", "transformers", "tokenizers",
    "safetensors",
)  # fmt: skip
OPTIONAL = {"deepspeed": "the trainer's strategy deepspeed", "matplotlib": "the demo's plot"}
INSTALL = "make setup, or pip install 'inpo[cpu]'"

# In a process of its own: a torch that does not load may end its process, and the command needs none of it.
TORCH = """
import json, torch

def gpu(number):
    found = torch.cuda.get_device_properties(number)
    with torch.cuda.device(number):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return {"name": found.name, "memory": found.total_memory, "bf16": bf16}

count = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({"version": torch.__version__, "gpus": [gpu(number) for number in range(count)]}))
"""
DRIVER = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")


def inpo(machine: Machine, _: Places) -> list[Row]:
    """The version, and in a checkout the commit."""
    version = machine.version("inpo")
    if version is None:
        return [Row("inpo", "not installed as a distribution", "missing", "make setup")]
    if not (machine.root / ".git").exists():
        return [Row("inpo", version)]
    try:
        commit = machine.output(["git", "-C", str(machine.root), "describe", "--always", "--dirty=, changed"])
    except UnansweredError as error:
        commit = f"unknown ({error})"
    return [Row("inpo", f"{version}, commit {commit}")]


def python(machine: Machine, _: Places) -> list[Row]:
    """The interpreter and the system below it."""
    oldest = ".".join(map(str, OLDEST_PYTHON))
    major, minor = machine.python_version.split(".")[:2]
    if (int(major), int(minor)) >= OLDEST_PYTHON:
        found = Row("python", machine.python_version)
    else:
        found = Row("python", machine.python_version, "missing", f"Python {oldest} or newer: PYTHON=... make setup")
    return [found, Row("platform", machine.platform)]


def processor(machine: Machine, _: Places) -> list[Row]:
    """Cores, memory, and whether bf16 is more than a way to save memory here."""
    try:
        total, available = machine.memory()
        memory = Row("memory", f"{gib(total)}, {gib(available)} available")
    except UnansweredError as error:
        memory = Row("memory", str(error), "missing", INSTALL)
    return [Row("cpu", f"{machine.cores()} cores, {_bf16(machine.cpu_flags())}"), memory]


def torch(machine: Machine, _: Places) -> list[Row]:
    """Torch, imported, and the GPUs that it sees."""
    installed = machine.version("torch")
    if installed is None:
        return [Row("torch", "not installed", "missing", INSTALL)]
    try:
        said = machine.output([machine.python, "-P", "-c", TORCH], TORCH_S)
        report: dict[str, Any] = json.loads(said.rpartition("\n")[2])
    except (UnansweredError, ValueError) as error:
        return [Row("torch", f"{installed} is installed and does not load: {error}", "missing", INSTALL)]
    driver = _driver(machine)
    gpus = [_gpu(number, gpu, driver) for number, gpu in enumerate(report["gpus"])]
    return [Row("torch", report["version"]), *(gpus or [_no_gpu(report["version"], driver)])]


def packages(machine: Machine, _: Places) -> list[Row]:
    """Versions of what the services are made of."""
    rows: list[Row] = []
    for name in (*REQUIRED, *OPTIONAL):
        version = machine.version(name)
        if version is not None:
            rows.append(Row(name, version))
        elif name in OPTIONAL:
            rows.append(Row(name, f"not installed; {OPTIONAL[name]} needs it", "optional", INSTALL))
        else:
            rows.append(Row(name, "not installed", "missing", INSTALL))
    return rows


def disks(machine: Machine, places: Places) -> list[Row]:
    """Where artifacts go, and the memory that processes share."""
    return [_store(machine, places.store_dir), *_shared_memory(machine)]


def _bf16(flags: frozenset[str] | None) -> str:
    if flags is None:
        return "bf16 unknown"
    named = sorted(flags & {"amx_bf16", "avx512_bf16"})
    return f"bf16 by {', '.join(named)}" if named else "bf16 emulated"


def _driver(machine: Machine) -> list[tuple[str, str]]:
    """Name and driver of every GPU that NVIDIA's own tool sees, whatever torch does."""
    try:
        lines = machine.output(DRIVER, timeout_s=4.0).splitlines()
    except UnansweredError:
        return []
    return [(name.strip(), version.strip()) for name, _, version in (line.rpartition(",") for line in lines)]


def _gpu(number: int, gpu: dict[str, Any], driver: list[tuple[str, str]]) -> Row:
    version = driver[0][1] if driver else "unknown"
    bf16 = "bf16" if gpu["bf16"] else "no bf16: float32 only"
    return Row(f"cuda:{number}", f"{gpu['name']}, {gib(gpu['memory'])}, driver {version}, {bf16}")


def _no_gpu(version: str, driver: list[tuple[str, str]]) -> Row:
    if not driver:
        return Row("gpu", "none; everything runs on the CPU", "optional")
    names = ", ".join(f"{name} (driver {number})" for name, number in driver)
    public = version.partition("+")[0]
    remedy = f"PyPI's torch has CUDA: pip install --force-reinstall torch=={public}"
    return Row("gpu", f"{names}, which torch {version} does not see", "optional", remedy)


def _store(machine: Machine, folder: Path) -> Row:
    disk = machine.disk(folder)
    found = f"{folder}, {gib(disk.free)} free"
    if not disk.writable:
        return Row("store", f"{folder} cannot be written to", "missing", "name another folder with INPO_STORE_DIR")
    if disk.free < LEAST_STORE:
        return Row("store", found, "missing", "make room, or name a folder elsewhere with INPO_STORE_DIR")
    return Row("store", found)


def _shared_memory(machine: Machine) -> list[Row]:
    if machine.system != "Linux":
        return []
    free = machine.disk(SHM).free
    if free >= LEAST_SHM:
        return [Row("shared memory", f"{SHM}, {gib(free)} free")]
    remedy = "vLLM and groups of processes want more: docker run --shm-size 2g"
    return [Row("shared memory", f"{SHM}, {gib(free)} free", "optional", remedy)]
