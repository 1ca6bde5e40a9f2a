"""What `inpo up` shows while the system runs."""

import signal
import threading
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.failures import UserError
from services.cli.launcher.supervisor import Status
from services.cli.launcher.up import RunningSystem, UpOptions, running_system
from services.cli.launcher.vllm import Engine, VllmOptions
from services.cli.views.screen import screen
from services.policy.engines.vllm.serving import Dtype

REFRESH_S = 0.5


def keep_up(state_dir: Path, port: int, redis_url: str | None, vllm: VllmOptions | None) -> None:
    """Run the system until SIGINT or SIGTERM."""
    console = screen()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console.print(f"starting below {state_dir} …", markup=False, soft_wrap=True)
    try:
        with running_system(state_dir, UpOptions(port=port, redis_url=redis_url, vllm=vllm)) as system:
            console.print(_welcome(system), markup=False, soft_wrap=True)
            _show_table(system, console) if console.is_terminal else _show_lines(system, console)
    except KeyboardInterrupt:
        console.print("all processes have ended; `inpo up` goes on from here", markup=False, soft_wrap=True)


def vllm_options(engine: Engine, model: Path | None, dtype: Dtype) -> VllmOptions | None:
    """The options of `inpo up`; `UserError` when vLLM is asked for without a model to serve, or a model without it."""
    if engine == "vllm":
        if model is None:
            raise UserError("--engine vllm needs --model DIR: a model directory of the architecture that runs have")
        return VllmOptions(model, dtype)
    if model is not None or dtype != "float32":
        raise UserError("--model and --dtype are of --engine vllm; the engine transformers takes each run's own model")
    return None


def _welcome(system: RunningSystem) -> str:
    return (
        f"INPO is up at {system.url}: the API describes itself at {system.url}/docs, logs are in {system.logs}\n"
        "next: inpo run examples/stories.yaml --set model.path=DIR --watch (in another terminal); Ctrl-C ends"
    )


def _show_table(system: RunningSystem, console: Console) -> None:
    pause = threading.Event()
    with Live(_table(system.statuses()), console=console, auto_refresh=False, transient=True) as live:
        while not pause.wait(REFRESH_S):
            live.update(_table(system.statuses()), refresh=True)


def _show_lines(system: RunningSystem, console: Console) -> None:
    """A line for every change, for logs."""
    pause = threading.Event()
    shown: dict[str, tuple[str, int | None]] = {}
    while True:
        for status in system.statuses():
            now = (status.state, status.pid)
            if shown.get(status.name) != now:
                shown[status.name] = now
                console.print(_line(system, status), markup=False, soft_wrap=True)
        pause.wait(REFRESH_S)


def _line(system: RunningSystem, status: Status) -> str:
    if status.pid is not None:
        return f"{status.name} {status.state}, process {status.pid}"
    last = system.tail(status.name).rpartition("\n")[2]
    return f"{status.name} {status.state}: it ended with {status.last_exit}; its log ends: {last[:300]}"


def _table(statuses: list[Status]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("service", "state", "process", "up", "restarts", "last end"):
        table.add_column(column)
    for status in statuses:
        style = "green" if status.state == "running" else "yellow"
        table.add_row(
            status.name,
            Text(status.state, style=style),
            str(status.pid or ""),
            f"{status.uptime_s:.0f} s" if status.pid is not None else "",
            str(status.restarts or ""),
            status.last_exit or "",
        )
    return table
