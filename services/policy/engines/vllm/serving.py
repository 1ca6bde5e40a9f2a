"""How INPO's vLLM server is started: its command line and its environment, for launchers, containers and people.

`python -m services.policy.engines.vllm.serving --model DIR` becomes the server. Needs vLLM only in
the Python that it names.
"""

import argparse
import ctypes.util
import json
import os
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Dtype = Literal["float32", "bfloat16", "float16"]

EXTENSION = Path(__file__).parent / "extension"
EXTENSION_CLASS = "inpo_vllm_extension.InpoWorkerExtension"
# The stock server asks for the key below /v1 only; its admin routes are elsewhere.
KEY_CLASS = "inpo_vllm_key.KeyEverywhere"
SERVED_NAME = "policy"
PYTHON = "INPO_VLLM_PYTHON"


class ServingError(ValueError):
    """The server cannot be started like this; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """One server. `kv_cache_gib` is for a CPU; on a GPU vLLM takes the share `gpu_memory` of the memory.

    `extra` is handed to vLLM as it is, behind everything else.
    """

    model: Path
    host: str = "127.0.0.1"
    port: int = 8010
    dtype: Dtype = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    max_model_len: int | None = None
    max_num_seqs: int = 256
    kv_cache_gib: int = 1
    gpu_memory: float = 0.85
    api_key_file: Path | None = None
    sleep_mode: bool = False
    extra: Sequence[str] = ()


def vllm_python(root: Path) -> Path:
    """`INPO_VLLM_PYTHON`, else the one of `.venv-vllm` below `root`; `ServingError` when it does not exist."""
    named = os.environ.get(PYTHON)
    found = Path(named) if named else root / ".venv-vllm" / "bin" / "python"
    if not found.exists():
        raise ServingError(
            f"{found} does not exist: run `make vllm`, or set {PYTHON} to the Python of an environment with vLLM"
        )
    return found


def check_host(options: ServerOptions) -> None:
    """`ServingError` when the model, the port or a library that the server needs is not there."""
    if not (options.model / "config.json").exists():
        raise ServingError(f"{options.model} is not a model directory: it has no config.json")
    if options.device == "cpu" and sys.platform == "linux" and ctypes.util.find_library("numa") is None:
        raise ServingError("vLLM's CPU build needs libnuma.so.1: apt-get install libnuma1 (dnf install numactl-libs)")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise ServingError(
                f"port {options.port} of {options.host} cannot be had ({error.strerror}): is another vLLM running?"
            ) from error


def arguments(python: Path, options: ServerOptions) -> list[str]:
    """The command line. Secrets are not in it."""
    # `vllm serve` wants a distribution called vllm, which the CPU build is not.
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(options.model), "--served-model-name", SERVED_NAME]
    command += ["--host", options.host, "--port", str(options.port), "--dtype", options.dtype]
    command += ["--worker-extension-cls", EXTENSION_CLASS, "--max-num-seqs", str(options.max_num_seqs)]
    # The model's own generation_config.json may hold penalties that would change the policy.
    command += ["--generation-config", "vllm", "--disable-uvicorn-access-log", "--no-enable-log-requests"]
    if options.max_model_len is not None:
        command += ["--max-model-len", str(options.max_model_len)]
    if options.device == "cpu":
        # A seeded request whose prompt is computed in pieces ends the engine of vLLM 0.32 on a CPU: its generator
        # cannot be wound back. So prompts are computed whole.
        length = options.max_model_len or _context(options.model)
        command += [
            "--enforce-eager",
            "--no-enable-chunked-prefill",
            "--max-num-batched-tokens",
            str(max(8192, length)),
        ]
    else:
        command += ["--gpu-memory-utilization", str(options.gpu_memory)]
    if options.api_key_file is not None:
        command += ["--middleware", KEY_CLASS]
    if options.sleep_mode:
        command.append("--enable-sleep-mode")
    return [*command, *options.extra]


def environment(options: ServerOptions, base: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: `base` without what belongs to INPO, plus what the server needs."""
    # An inherited PYTHONPATH would bring this environment's packages into the server's.
    kept = {name: value for name, value in base.items() if not name.startswith("INPO_") and name != "PYTHONPATH"}
    found = {
        **kept,
        "PYTHONPATH": str(EXTENSION),
        # What lies in the folder that the server starts in is not to be imported.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        # Pause, collective_rpc and weight versions; so the server belongs on loopback or a private network.
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if options.device == "cpu":
        found |= {
            "TORCHDYNAMO_DISABLE": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "VLLM_CPU_KVCACHE_SPACE": str(options.kv_cache_gib),
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    if options.api_key_file is not None:
        found["VLLM_API_KEY"] = _key(options.api_key_file)
    return found


def _context(model: Path) -> int:
    config = json.loads((model / "config.json").read_bytes())
    context = config.get("text_config", config).get("max_position_embeddings")
    return context if isinstance(context, int) else 2048


def _key(file: Path) -> str:
    try:
        # As `shared.runtime.key_files`, which is not there where only this folder is.
        if stat.S_IMODE(file.stat().st_mode) & (stat.S_IRWXO | stat.S_IWGRP):
            raise ServingError(f"--api-key-file: others can read {file}: chmod 600 {file}")
        key = next(iter(file.read_text().splitlines()), "").strip()
    except (OSError, UnicodeError) as error:
        raise ServingError(f"--api-key-file: cannot read {file}: {error}") from error
    if not key:
        raise ServingError(f"--api-key-file: {file} is empty")
    return key


def _options(words: Sequence[str] | None = None) -> ServerOptions:
    parser = argparse.ArgumentParser(prog="python -m services.policy.engines.vllm.serving", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model directory of the runs' architecture")
    parser.add_argument("--host", default="127.0.0.1", help="never a public address: the API can run code")
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--max-model-len", type=int, help="tokens of prompt and response (default: the model's context)"
    )
    parser.add_argument("--max-num-seqs", type=int, default=256, help="responses computed side by side")
    parser.add_argument("--kv-cache-gib", type=int, default=1, help="memory of the cache on a CPU")
    parser.add_argument("--gpu-memory", type=float, default=0.85, help="share of a GPU's memory")
    parser.add_argument("--api-key-file", type=Path, help="file whose first line is the key that clients must send")
    parser.add_argument("--sleep-mode", action="store_true", help="for a GPU that is shared with the trainer")
    found, extra = parser.parse_known_args(words)
    return ServerOptions(**vars(found), extra=tuple(extra))


def main() -> None:
    """Become the server, in the Python that `INPO_VLLM_PYTHON` names or in `.venv-vllm`."""
    try:
        options = _options()
        python = vllm_python(Path(__file__).resolve().parents[4])
        check_host(options)
        command, variables = arguments(python, options), environment(options, os.environ)
    except ServingError as error:
        sys.exit(f"vllm: {error}")
    os.execve(command[0], command, variables)  # noqa: S606  (our own command, and no shell is wanted)


if __name__ == "__main__":
    main()
