"""vLLM as one more process of the all-in-one system: in an environment of its own, on a free loopback port."""

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from services.cli.failures import StartError
from services.cli.launcher.health import Health
from services.cli.launcher.redis_server import free_port
from services.cli.launcher.supervisor import Command
from services.policy.engines.vllm.serving import (
    Dtype,
    ServerOptions,
    ServingError,
    arguments,
    check_host,
    environment,
    vllm_python,
)
from shared.runtime.key_files import write_private

VLLM = "vllm"
START_S = 300.0
PROBE_TIMEOUT_S = 10.0

Engine = Literal["transformers", "vllm"]


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """vLLM for the runs of one model architecture. `python` None takes INPO_VLLM_PYTHON or .venv-vllm."""

    model: Path
    dtype: Dtype = "float32"
    python: Path | None = None


@dataclass(frozen=True, slots=True)
class VllmServer:
    """The server of a system that is about to start."""

    url: str
    command: Command
    health: Health
    settings: dict[str, str]


def vllm_server(options: VllmOptions, state_dir: Path) -> VllmServer:
    """The command that serves the model, and the services' settings; `StartError` says what is missing.

    Server and services share a key that is made anew each time and stands in a file of the state directory.
    """
    key_file = state_dir / "vllm.key"
    write_private(key_file, secrets.token_urlsafe(32) + "\n")
    server = ServerOptions(
        model=options.model.expanduser().resolve(), port=free_port(), dtype=options.dtype, api_key_file=key_file
    )
    try:
        python = options.python or vllm_python(Path(__file__).resolve().parents[3])
        device: Literal["cpu", "cuda"] = "cuda" if os.environ.get("INPO_DEVICE", "cpu").startswith("cuda") else "cpu"
        server = replace(server, device=device)
        check_host(server)
        command, variables = arguments(python, server), environment(server, os.environ)
    except ServingError as error:
        raise StartError(f"vllm: {error}") from error
    url = f"http://127.0.0.1:{server.port}"
    health = Health(lambda: healthy(url), start_s=START_S)
    settings = {
        "INPO_ENGINE": VLLM,
        "INPO_VLLM_URL": url,
        "INPO_VLLM_API_KEY_FILE": str(key_file),
        "INPO_SERVED_MODEL": str(server.model),
        "INPO_DTYPE": options.dtype,
    }
    log = state_dir / "logs" / f"{VLLM}.log"
    return VllmServer(url, Command(VLLM, command, variables, log, health=health, folder=state_dir), health, settings)


def healthy(url: str) -> bool:
    """Whether the server answers and says that its engine lives."""
    import httpx  # noqa: PLC0415  (0.1 s that `inpo --help` does without)

    try:
        return httpx.get(f"{url}/health", timeout=PROBE_TIMEOUT_S, trust_env=False).is_success
    except httpx.HTTPError:
        return False
