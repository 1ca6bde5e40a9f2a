"""`inpo weights`, and `promote` and `rollback` below it."""

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.options import STATE_DIR, KeyFile, RunId, StateDir, Url, connect
from services.cli.failures import reported

if TYPE_CHECKING:
    from shared.contracts.weights import Promotion

app = typer.Typer(
    invoke_without_command=True,
    help="List all committed weight versions; promote one to outsiders of the runs, or roll back.",
)

Number = Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="Number of a committed version; 0 is the base.")]


@app.callback()
def weights(
    context: typer.Context, url: Url = None, state_dir: StateDir = STATE_DIR, api_key_file: KeyFile = None
) -> None:
    """List all committed weight versions, where they are, and which is promoted."""
    from services.cli.views.screen import screen  # noqa: PLC0415
    from services.cli.views.tables import weights_table  # noqa: PLC0415

    if context.invoked_subcommand is not None:
        return
    with reported():
        api = connect(url, state_dir, api_key_file)
        listed = api.weights()
        for damaged in listed.damaged:
            screen().print(f"{damaged.run}@{damaged.number} is damaged: {damaged.problem}", markup=False, style="red")
        found = listed.weights
        if not found and not listed.damaged:
            screen().print("no weights yet: the first iteration's commit brings some")
            return
        current = api.promoted().current
        screen().print(weights_table(found, current.version if current is not None else None))


@app.command()
def promote(
    run: RunId, number: Number, url: Url = None, state_dir: StateDir = STATE_DIR, api_key_file: KeyFile = None
) -> None:
    """Serve a committed version to outsiders: /v1/completions of the policy service. Runs go on as before."""
    with reported():
        _tell(connect(url, state_dir, api_key_file).promote(run, number))


@app.command()
def rollback(url: Url = None, state_dir: StateDir = STATE_DIR, api_key_file: KeyFile = None) -> None:
    """Return to what was promoted before; again, to what was promoted before that."""
    with reported():
        _tell(connect(url, state_dir, api_key_file).roll_back())


def _tell(made: "Promotion") -> None:
    typer.echo(f"{made.version} is promoted: /v1/completions of the policy service answers with it")
