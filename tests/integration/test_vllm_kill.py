"""vLLM's processes killed one after the other under a running system: the run goes on by itself to its end."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from services.cli.client import Api
from services.cli.demo.model import demo_model
from services.cli.demo.run import demo_spec
from services.cli.launcher.up import RunningSystem, UpOptions, running_system
from services.cli.launcher.vllm import VLLM, VllmOptions, healthy
from services.cli.views.watching import ENDED
from tests.support.vllm_server import START_S, require_vllm
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(1200), pytest.mark.xdist_group("vllm_kill")]

VICTIMS = ["api server", "EngineCor", "Worker"]


def _find(leader: int, name: str) -> int:
    """The API server leads its group; its children have the names that vLLM gives them."""
    if name == "api server":
        return leader
    return next(child.pid for child in psutil.Process(leader).children(recursive=True) if name in child.name())


def _group(leader: int) -> set[int]:
    """Live members of a process group but the launcher's own watcher, which goes last."""
    members: set[int] = set()
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.add(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def test_whichever_process_of_vllm_is_killed_no_orphan_stays_and_the_run_succeeds(tmp_path: Path) -> None:
    """Kill -9 of the API server, of EngineCore and of the worker: each time a new group holds the port, alone."""
    require_vllm()
    model = demo_model(tmp_path / "model")
    with running_system(tmp_path / "state", UpOptions(vllm=VllmOptions(model.directory))) as system:
        api = Api(system.url)
        run = api.create_run(demo_spec("inpo", model.directory, model.prompts, seed=0, iterations=3)).id
        for iteration, name in enumerate(VICTIMS):
            # Something is going on under the weights of this iteration, so that the victim takes work along.
            wait_until(lambda at=iteration: api.run(run).progress.iteration >= at + 1, 300.0, f"iteration {iteration}")
            assert api.run(run).state not in ENDED
            _kill_and_await(system, name)
        wait_until(lambda: api.run(run).state in ENDED, 400.0, f"run {run} to end")
        view = api.run(run)
        assert view.state == "succeeded", view.reason
        assert len(api.iterations(run)) == 4


def _kill_and_await(system: RunningSystem, name: str) -> None:
    assert system.vllm_url is not None
    url, port = system.vllm_url, int(system.vllm_url.rpartition(":")[2])
    old = system.processes[VLLM]
    os.kill(_find(old, name), signal.SIGKILL)
    wait_until(lambda: system.processes.get(VLLM, old) != old, 60.0, f"vLLM to be started again after its {name}")
    wait_until(lambda: not _group(old), 30.0, "the last of the old group, killed already, to be gone")
    wait_until(lambda: healthy(url), START_S, "vLLM to answer again")
    new = _group(system.processes[VLLM])
    listening = {
        connection.pid
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr[1] == port
    }
    assert listening
    assert listening <= new
