"""A real vLLM server for tests, supervised as `inpo up` does it."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.cli.launcher.redis_server import free_port
from services.cli.launcher.supervisor import Supervisor
from services.cli.launcher.vllm import VllmOptions, healthy, vllm_server
from services.policy.engines.vllm.serving import ServingError, vllm_python
from services.policy.settings import PolicySettings
from tests.support.data import ROOT
from tests.support.waiting import wait_until

START_S = 300.0


def require_vllm() -> None:
    """Skips the test where there is no vLLM, saying how to get it; fails it where INPO_REQUIRE_VLLM=1 wants it."""
    try:
        vllm_python(ROOT)
    except ServingError as error:
        if os.environ.get("INPO_REQUIRE_VLLM") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@contextmanager
def supervised_vllm(
    model: Path, state_dir: Path, options: VllmOptions | None = None
) -> Generator[tuple[PolicySettings, Supervisor]]:
    """The settings of a policy over a server that answers, and its supervisor. Logs are below `state_dir`."""
    require_vllm()
    (state_dir / "logs").mkdir(parents=True, exist_ok=True)
    server = vllm_server(options or VllmOptions(model), state_dir)
    supervisor = Supervisor([server.command])
    supervisor.start()
    try:
        wait_until(lambda: healthy(server.url) or bool(supervisor.statuses()[0].last_exit), START_S, "vLLM to answer")
        assert healthy(server.url), supervisor.tail("vllm", 60)
        key_file = Path(server.settings["INPO_VLLM_API_KEY_FILE"])
        yield PolicySettings(engine="vllm", vllm_url=server.url, vllm_api_key_file=key_file), supervisor
    finally:
        supervisor.stop()


def unused_url() -> str:
    """An address where nothing answers."""
    return f"http://127.0.0.1:{free_port()}"
