"""`make bench`: idle time of a demo iteration (`idle`, the default); cost of `controller` and `prompts`; `vllm`."""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import controller, prompts
from benchmarks.idle import OVERHEAD, Window, read_spans, windows
from services.cli.client import Api
from services.cli.demo.model import demo_model
from services.cli.demo.run import demo_spec
from services.cli.launcher.up import running_system
from services.cli.views.screen import screen
from services.cli.views.watching import follow

GOAL = 0.10
REST = "queue and waiting"


def main() -> None:
    """Run the parts that the arguments name."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", default=["idle"], help="idle, controller, prompts, vllm (default: idle)")
    parser.add_argument("--iterations", type=int, default=6, help="of idle; the first warms up (default: 6)")
    chosen = parser.parse_args()
    unknown = set(chosen.parts) - {"idle", "controller", "prompts", "vllm"}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if "idle" in chosen.parts:
        _idle(chosen.iterations)
    if "controller" in chosen.parts:
        controller.run(screen())
    if "prompts" in chosen.parts:
        prompts.run(screen())
    if "vllm" in chosen.parts:
        from benchmarks import vllm_engine  # noqa: PLC0415  (torch takes seconds to import)

        vllm_engine.run()


def _idle(iterations: int) -> None:
    """Align the demo's model for a few iterations through the real services, and show the idle time of each."""
    console = screen()
    model = demo_model(Path(".inpo/demo"))
    with tempfile.TemporaryDirectory() as folder, running_system(Path(folder)) as system:
        spec = demo_spec("inpo", model.directory, model.prompts, 0, iterations)
        api = Api(system.url)
        run = follow(api, api.create_run(spec).id, console)
        measured = windows(read_spans(system.logs, run.id))
    _show(measured, console)


def _show(measured: Sequence[Window], console: Console) -> None:
    table = Table(title="idle time of a demo iteration")
    items = (*OVERHEAD, REST)
    for name in (
        "iteration",
        "wall s",
        "idle s",
        "idle share",
        "without evaluation",
        *(f"{name} ms" for name in items),
    ):
        table.add_column(name, justify="right")
    for window in measured:
        table.add_row(
            str(window.iteration),
            f"{window.wall_s:.2f}",
            f"{window.idle_s:.3f}",
            f"{window.share:.1%}",
            f"{window.without_evaluation_s / window.wall_s:.1%}",
            *(f"{1000 * window.items[name]:.0f}" for name in items),
        )
    console.print(table)
    share = statistics.median(window.share for window in measured)
    console.print(f"median idle share {share:.1%}, goal below {GOAL:.0%}: {'met' if share < GOAL else 'missed'}")


if __name__ == "__main__":
    main()
