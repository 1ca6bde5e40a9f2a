"""`python -m services.policy` as a process: it answers beside its worker, stops when told to, and never half lives."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

from services.cli.launcher.redis_server import free_port
from shared.store.artifacts import promotions
from shared.store.artifacts.store import DirectoryStore
from tests.support.published import weights_without_a_model
from tests.support.waiting import wait_until


@contextmanager
def policy(folder: Path, redis_url: str, port: int) -> Generator[subprocess.Popen[bytes]]:
    """The service with a stub engine; killed at the end if it still runs."""
    stub = "tests.support.stub_policy"
    settings = {
        "INPO_STORE_DIR": str(folder),
        "INPO_REDIS_URL": redis_url,
        "INPO_PORT": str(port),
        "INPO_ENGINE": f"{stub}:StubEngine",
        "INPO_TOKENIZER": f"{stub}:StubTokenizer",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.policy"], env={**os.environ, **settings})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


def test_it_answers_with_the_promoted_version_and_ends_when_told_to(tmp_path: Path, redis_url: str) -> None:
    store, port = DirectoryStore(tmp_path), free_port()
    promotions.promote(store, weights_without_a_model(store, "run", 1), by="test")
    url = f"http://127.0.0.1:{port}"
    with policy(tmp_path, redis_url, port) as process:
        wait_until(lambda: is_ready(url), 60.0, "the policy to be ready")
        body = {"prompt": "once", "max_tokens": 4}
        answer = httpx.post(f"{url}/v1/completions", json=body, trust_env=False, timeout=30.0)
        assert (answer.status_code, answer.json()["model"]) == (200, "run@1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30.0) == 0


def test_when_its_worker_cannot_go_on_the_whole_process_ends_as_failed(tmp_path: Path) -> None:
    """The worker is broken before the server listens: a queue address that is none. Nobody is left to look alive."""
    with policy(tmp_path, "nonsense://", free_port()) as process:
        assert process.wait(timeout=60.0) == 1
