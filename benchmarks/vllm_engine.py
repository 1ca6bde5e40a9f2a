# transformers is only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The vLLM engine: how soon saved weights serve, against a restart, and its tokens/s against vLLM used offline.

The model has 7.5M parameters: 8 layers of width 256, a vocabulary of 4,096, tied, random. Both sides run in float32 on
the CPU with the same limits, prompts and seeds, one after the other in turns.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from services.cli.launcher.supervisor import Supervisor
from services.cli.launcher.vllm import VllmOptions, VllmServer, healthy, vllm_server
from services.cli.views.screen import screen
from services.policy.engine import GenerationRequest, Sampling
from services.policy.engines.vllm.engine import VllmEngine
from services.policy.engines.vllm.serving import ServerOptions, environment, vllm_python
from services.policy.settings import PolicySettings
from shared.contracts.weights import Canary, WeightVersion
from shared.runtime.telemetry import configure_logging
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights import manifests
from shared.store.weights.store import weights_of

ROOT = Path(__file__).resolve().parents[1]
VOCAB_SIZE = 4096
NUM_SWAPS = 7
NUM_PAIRS = 4
NUM_PROMPTS = 48
NUM_RESPONSES = 8
NUM_TOKENS = 64
START_S = 300.0
CANARY = [[1, *range(10, 40)], [1, *range(400, 440)]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of every swap and of the restart, tokens/s of every turn."""

    save_to_served_s: list[float]
    restart_s: float
    served: list[float]
    offline: list[float]


def run() -> None:
    """Measure and show."""
    configure_logging("bench", "WARNING")
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        model = _make_model(path / "model")
        (path / "logs").mkdir()
        server = vllm_server(VllmOptions(path / "model"), path)
        supervisor = Supervisor([server.command])
        supervisor.start()
        try:
            _await_healthy(server.url)
            with closing(VllmEngine(_settings(server))) as engine:
                swaps = _swaps(engine, DirectoryStore(path / "store"), model, path / "model")
                served, offline = _throughput(engine, path / "model")
            restart_s = _restart(supervisor, server.url)
        finally:
            supervisor.stop()
    _show(Measured(swaps, restart_s, served, offline), screen())


def _settings(server: VllmServer) -> PolicySettings:
    return PolicySettings(vllm_url=server.url, vllm_api_key_file=Path(server.settings["INPO_VLLM_API_KEY_FILE"]))


def _make_model(directory: Path) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=8,
            num_attention_heads=8,
            num_key_value_heads=8,
            max_position_embeddings=256,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(directory)
    vocabulary = {f"t{index}": index for index in range(VOCAB_SIZE)}
    names = dict(zip(("unk_token", "bos_token", "eos_token"), vocabulary, strict=False))
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=names["unk_token"]))
    PreTrainedTokenizerFast(tokenizer_object=core, **names).save_pretrained(str(directory))
    return model.eval()


def _swaps(engine: VllmEngine, store: DirectoryStore, model: LlamaForCausalLM, source: Path) -> list[float]:
    """From the first byte saved to an answer of the verified new weights; the trainer's canary is not timed."""
    times: list[float] = []
    before = _log_probs(model)
    for number in range(NUM_SWAPS):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=1e-3 if number else 0.0)
        after = _log_probs(model)
        canary = Canary(sequences=CANARY, log_probs=after, parent_log_probs=before)
        start = time.perf_counter()
        version = _save(store, model, source, number, canary)
        engine.swap_weights(store.path(version.directory), version)
        engine.score(CANARY[:1])
        times.append(time.perf_counter() - start)
        before = after
    # The first also warms up.
    return times[1:]


def _save(store: DirectoryStore, model: LlamaForCausalLM, source: Path, number: int, canary: Canary) -> WeightVersion:
    candidate = weights_of(store).begin("bench", number)
    model.save_pretrained(candidate.path)
    for file in source.glob("tokenizer*"):
        shutil.copyfile(file, candidate.path / file.name)
    (candidate.path / manifests.CANARY).write_text(canary.model_dump_json())
    return weights_of(store).finish(candidate, parent=None, num_parameters=model.num_parameters())


def _log_probs(model: LlamaForCausalLM) -> list[list[float]]:
    rows: list[list[float]] = []
    with torch.no_grad():
        for sequence in CANARY:
            ids = torch.tensor([sequence])
            log_probs = torch.log_softmax(model(input_ids=ids).logits[0, :-1], dim=-1)
            rows.append(log_probs.gather(1, ids[0, 1:, None]).squeeze(1).tolist())
    return rows


def _throughput(engine: VllmEngine, model: Path) -> tuple[list[float], list[float]]:
    prompts = [[1, *((31 * i + 7 * j) % (VOCAB_SIZE - 3) + 3 for j in range(26 + i % 12))] for i in range(NUM_PROMPTS)]
    seeds = [1000 * i for i in range(NUM_PROMPTS)]
    served: list[float] = []
    offline: list[float] = []
    with _offline(model) as peer:
        # The first turn of both warms up.
        for turn in range(NUM_PAIRS + 1):
            requests = [
                GenerationRequest(ids, [seed + turn * 97 + k for k in range(NUM_RESPONSES)])
                for ids, seed in zip(prompts, seeds, strict=True)
            ]
            start = time.perf_counter()
            found = engine.generate(requests, Sampling(NUM_TOKENS))
            seconds = time.perf_counter() - start
            served.append(sum(len(one.token_ids) for row in found for one in row) / seconds)
            offline.append(_ask(peer, prompts, [seed + turn * 97 for seed in seeds]))
    return served[1:], offline[1:]


@contextmanager
def _offline(model: Path) -> Generator[subprocess.Popen[str]]:
    options = ServerOptions(model=model)
    command = [str(vllm_python(ROOT)), str(ROOT / "benchmarks" / "offline_vllm.py"), str(model)]
    peer = subprocess.Popen(  # noqa: S603  (our own command)
        [*command, str(options.max_num_seqs), "8192"],
        env=environment(options, os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        while _line(peer) != "ready":
            pass
        yield peer
    finally:
        assert peer.stdin is not None
        peer.stdin.close()
        try:
            peer.wait(timeout=30)
        except subprocess.TimeoutExpired:
            peer.kill()
            peer.wait()


def _ask(peer: subprocess.Popen[str], prompts: list[list[int]], seeds: list[int]) -> float:
    assert peer.stdin is not None
    batch = {"prompts": prompts, "seeds": seeds, "n": NUM_RESPONSES, "max_tokens": NUM_TOKENS}
    peer.stdin.write(json.dumps(batch) + "\n")
    peer.stdin.flush()
    while not (line := _line(peer)).startswith("{"):
        pass
    answer = json.loads(line)
    return answer["tokens"] / answer["seconds"]


def _line(peer: subprocess.Popen[str]) -> str:
    assert peer.stdout is not None
    line = peer.stdout.readline()
    if not line:
        raise SystemExit("vLLM offline ended before it answered")
    return line.strip()


def _restart(supervisor: Supervisor, url: str) -> float:
    """From the kill of the server until it answers again: what a swap saves."""
    old = supervisor.pids()["vllm"]
    start = time.perf_counter()
    os.kill(old, signal.SIGKILL)
    while supervisor.pids().get("vllm", old) == old:
        time.sleep(0.01)
    _await_healthy(url)
    return time.perf_counter() - start


def _await_healthy(url: str) -> None:
    deadline = time.monotonic() + START_S
    while not healthy(url):
        if time.monotonic() > deadline:
            raise SystemExit(f"vLLM at {url} does not answer")
        time.sleep(0.1)


def _show(measured: Measured, console: Console) -> None:
    swap = statistics.median(measured.save_to_served_s)
    ratio = statistics.median(a / b for a, b in zip(measured.served, measured.offline, strict=True))
    load = os.getloadavg()[0]
    console.print(f"save to served {1000 * swap:.0f} ms (median of {len(measured.save_to_served_s)}), goal 300 ms")
    console.print(f"restart {measured.restart_s:.1f} s: {measured.restart_s / swap:.0f} swaps, goal 50")
    console.print(
        f"tokens/s: ours {_range(measured.served)}, vLLM offline {_range(measured.offline)}; "
        f"median ratio {ratio:.2f}, goal 0.95"
    )
    console.print(f"load {load:.1f} on {os.cpu_count()} cores: above it, times are longer than the machine's own")


def _range(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"
