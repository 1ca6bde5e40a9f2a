"""The parts of the worker that settings name: found by entry point, so that torch is imported only when it is used."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from services.policy.engine import Engine, Rests
from services.policy.gate import Gate
from services.policy.prompts import Tokenizer
from services.policy.settings import PolicySettings
from services.policy.worker import GenerateHandler
from shared.runtime.device_lock import DeviceLock, SharedDevice
from shared.runtime.entry_points import named
from shared.runtime.worker import Limits, Worker
from shared.store.artifacts import DirectoryStore
from shared.store.redis_queue import RedisQueue

ENGINES = {
    "transformers": "services.policy.transformers_engine:TransformersEngine",
    "vllm": "services.policy.vllm.engine:VllmEngine",
}


def build_handler(settings: PolicySettings, store: DirectoryStore) -> GenerateHandler:
    """The handler of `generate` items, with the engine and tokenizer of the settings; `ValueError` for a wrong name."""
    engine = cast(Callable[[PolicySettings], Engine], named("engine", engine_name(settings)))(settings)
    load_tokenizer = cast(Callable[[Path], Tokenizer], named("tokenizer", settings.tokenizer))
    gate = Gate(engine, lambda version: store.path(version.directory))
    return GenerateHandler(store, gate, load_tokenizer, _device(settings, engine))


def _device(settings: PolicySettings, engine: Engine) -> SharedDevice | None:
    """The accelerator where it is shared with the trainer; an engine that can rest does so before it is let go."""
    if settings.device_lock is None:
        return None
    if isinstance(engine, Rests):
        return SharedDevice(DeviceLock(settings.device_lock), wake=engine.wake, rest=engine.rest)
    return SharedDevice(DeviceLock(settings.device_lock), wake=lambda: None, rest=lambda: None)


def run_loops(settings: PolicySettings, store: DirectoryStore, handler: GenerateHandler, stop: threading.Event) -> None:
    """Work in `num_loops` loops until told to stop; a loop that breaks stops the others, and its error is raised."""
    limits = Limits(lease_s=settings.lease_s, deadline_s=settings.deadline_s, drain_s=settings.drain_s)
    num = num_loops(settings)

    def run(index: int) -> None:
        # A consumer of its own: an item is held by one loop, not by one process.
        consumer = f"{settings.consumer('policy')}-{index}"
        queue = RedisQueue(settings.redis_url, consumer=consumer, lease_s=settings.lease_s)
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
    """Worker loops of this process, over one gate: a server that batches by itself wants several shards at once."""
    if settings.concurrency is not None:
        return settings.concurrency
    return 1 if engine_name(settings) == ENGINES["transformers"] else 4
