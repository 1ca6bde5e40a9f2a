"""`inpo runs`, `pause`, `resume` and `cancel`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.cli.commands.options import STATE_DIR, KeyFile, RunId, StateDir, Url, connect
from services.cli.failures import reported

if TYPE_CHECKING:
    from services.cli.client import Api


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (runs, pause, resume, cancel):
        app.command()(command)


def runs(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Show this run with its measurements.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow RUN until it ends.")] = False,
    url: Url = None,
    state_dir: StateDir = STATE_DIR,
    api_key_file: KeyFile = None,
) -> None:
    """List all runs, or show one: its state, measurements of every iteration, samples before and after."""
    from services.cli.views.screen import screen  # noqa: PLC0415
    from services.cli.views.tables import runs_table  # noqa: PLC0415
    from services.cli.views.watching import show_end  # noqa: PLC0415

    if watch and run is None:
        raise typer.BadParameter("--watch needs the RUN to follow")
    console = screen()
    with reported():
        api = connect(url, state_dir, api_key_file)
        if run is None:
            found = api.runs()
            console.print(runs_table(found) if found else "no runs yet: inpo run FILE creates one")
        elif watch:
            watch_to_the_end(api, run)
        else:
            show_end(api, api.run(run), console)


def watch_to_the_end(api: "Api", run: str) -> None:
    """Follow a run; exit code 1 when it did not succeed, 0 when the watcher leaves."""
    from services.cli.views.screen import screen  # noqa: PLC0415
    from services.cli.views.watching import follow  # noqa: PLC0415

    try:
        view = follow(api, run, screen())
    except KeyboardInterrupt:
        typer.echo(f"\nstopped watching; the run goes on. Follow it again: inpo runs {run} --watch")
        return
    if view.state != "succeeded":
        raise typer.Exit(1)


def pause(run: RunId, url: Url = None, state_dir: StateDir = STATE_DIR, api_key_file: KeyFile = None) -> None:
    """Pause a run: what is under way finishes, nothing new begins."""
    _change(run, "pause", url, state_dir, api_key_file)


def resume(run: RunId, url: Url = None, state_dir: StateDir = STATE_DIR, api_key_file: KeyFile = None) -> None:
    """Go on with a paused run, or with a failed one whose cause is mended."""
    _change(run, "resume", url, state_dir, api_key_file)


def cancel(run: RunId, url: Url = None, state_dir: StateDir = STATE_DIR, api_key_file: KeyFile = None) -> None:
    """End a run for good. What it has made is kept."""
    _change(run, "cancel", url, state_dir, api_key_file)


def _change(
    run: str, action: Literal["pause", "resume", "cancel"], url: Url, state_dir: StateDir, api_key_file: KeyFile
) -> None:
    with reported():
        view = connect(url, state_dir, api_key_file).change(run, action)
        typer.echo(f"{view.id} is {view.state}")
