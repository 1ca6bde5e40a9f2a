"""The parts of the service that settings name: found by entry point, so that torch is imported only when it is used."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import structlog

from services.policy.api.completions import CompletionLimits, Completions
from services.policy.drawing.prompts import Tokenizer
from services.policy.engine import Engine, EngineError, Rests
from services.policy.settings import PolicySettings
from services.policy.swapping.gate import Gate
from services.policy.worker import GenerateHandler
from shared.runtime.device_lock import DeviceLock, SharedDevice
from shared.runtime.entry_points import named
from shared.runtime.worker.loop import Limits, Worker
from shared.store.artifacts.identity import namespace_of
from shared.store.artifacts.store import ArtifactStore
from shared.store.queue.redis_queue import RedisQueue
from shared.store.weights.store import weights_of

log = structlog.get_logger(__name__)

ENGINES = {
    "transformers": "services.policy.engines.transformers.engine:TransformersEngine",
    "vllm": "services.policy.engines.vllm.engine:VllmEngine",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """Runs and outsiders share one engine behind one gate."""

    handler: GenerateHandler
    completions: Completions
    gate: Gate


def build_parts(settings: PolicySettings, store: ArtifactStore) -> Parts:
    """What the service does, with the engine and tokenizer of the settings; `ValueError` for a wrong name."""
    engine = cast(Callable[[PolicySettings], Engine], named("engine", engine_name(settings)))(settings)
    load_tokenizer = cast(Callable[[Path], Tokenizer], named("tokenizer", settings.tokenizer))
    gate = Gate(engine, weights_of(store).local, device=_device(settings, engine))
    limits = CompletionLimits(
        idle_s=settings.completion_idle_s,
        max_tokens=settings.completion_max_tokens,
        max_responses=settings.max_batch_rows,
    )
    handler = GenerateHandler(store, gate, load_tokenizer)
    return Parts(handler, Completions(store, gate, load_tokenizer, limits), gate)


def _device(settings: PolicySettings, engine: Engine) -> SharedDevice | None:
    """The accelerator where it is shared with the trainer; an engine that can rest does so before it is let go."""
    if settings.device_lock is None:
        return None
    if isinstance(engine, Rests):
        device = SharedDevice(DeviceLock(settings.device_lock), wake=engine.wake, rest=engine.rest)
        threading.Thread(target=_settle, args=(device,), name="settle", daemon=True).start()
        return device
    return SharedDevice(DeviceLock(settings.device_lock), wake=lambda: None, rest=lambda: None)


def _settle(device: SharedDevice) -> None:
    """A server that was just started is awake: take the accelerator for it once, so that it rests when idle."""
    try:
        with device.working():
            pass
    except EngineError as error:
        log.warning("engine_not_settled", error=str(error), next="the first work tries again")


def run_loops(settings: PolicySettings, store: ArtifactStore, handler: GenerateHandler, stop: threading.Event) -> None:
    """Work in `num_loops` loops until told to stop; a loop that breaks stops the others, and its error is raised."""
    limits = Limits(lease_s=settings.lease_s, deadline_s=settings.deadline_s, drain_s=settings.drain_s)
    num, namespace = num_loops(settings), namespace_of(store, settings.queue_namespace)

    def run(index: int) -> None:
        # A consumer of its own: an item is held by one loop, not by one process.
        consumer = f"{settings.consumer('policy')}-{index}"
        queue = RedisQueue(settings.redis_url, consumer=consumer, lease_s=settings.lease_s, namespace=namespace)
        try:
            Worker(queue, store, ["generate"], handler, limits).run(stop)
        finally:
            stop.set()

    with ThreadPoolExecutor(num, thread_name_prefix="loop") as pool:
        for loop in [pool.submit(run, index) for index in range(num)]:
            loop.result()


def engine_name(settings: PolicySettings) -> str:
    """The engine as `module:callable`."""
    return ENGINES.get(settings.engine, settings.engine)


def num_loops(settings: PolicySettings) -> int:
    """Worker loops of this process, over one gate: a server that batches by itself wants several shards at once.

    They share a fate: an item that kills the process costs those beside it a try. A server's crash kills no loop.
    """
    if settings.concurrency is not None:
        return settings.concurrency
    return 4 if engine_name(settings) == ENGINES["vllm"] else 1
