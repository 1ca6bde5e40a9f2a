"""`inpo doctor`: what this machine has, what it lacks, and how to get that."""

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.options import DEFAULT_URL, STATE_DIR, RedisUrl, StateDir, StoreDir, Url

if TYPE_CHECKING:
    from rich.table import Table

    from services.cli.doctor.rows import Row


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON, for reports and scripts.")] = False,
    url: Url = None,
    redis_url: RedisUrl = None,
    store_dir: StoreDir = None,
    state_dir: StateDir = STATE_DIR,
) -> None:
    """Show what this machine has of what INPO needs, and how to get the rest.

    Ends with exit code 1 when something is missing that `inpo up` needs. Nothing secret is shown: paste it.
    """
    from services.cli.doctor.examination import examine, system_in  # noqa: PLC0415
    from services.cli.doctor.machine import Machine  # noqa: PLC0415
    from services.cli.doctor.rows import Places, lacking  # noqa: PLC0415

    running = system_in(state_dir) or Places(DEFAULT_URL, state_dir / "store")
    places = Places(url or running.url, store_dir or running.store_dir, redis_url or running.redis_url)
    rows = examine(Machine(), places)
    missing = lacking(rows)
    if as_json:
        _print_json(rows)
    else:
        from services.cli.views.screen import screen  # noqa: PLC0415

        screen().print(_table(rows))
        typer.echo(f"missing: {', '.join(missing)}" if missing else "everything that INPO needs is here")
    if missing:
        raise typer.Exit(1)


def _print_json(rows: "list[Row]") -> None:
    import json  # noqa: PLC0415
    from dataclasses import asdict  # noqa: PLC0415

    typer.echo(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))


def _table(rows: "list[Row]") -> "Table":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    styles = {"ok": "green", "missing": "bold red", "optional": "yellow"}
    table = Table("", "", "found", "how to get it", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(Text(row.state, style=styles[row.state]), Text(row.name), Text(row.found), Text(row.remedy))
    return table
