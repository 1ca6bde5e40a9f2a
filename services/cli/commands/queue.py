"""`inpo queue`: show, dead, retry."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands.options import (
    STATE_DIR,
    KeyFile,
    Namespace,
    RedisUrl,
    RunId,
    StateDir,
    StoreDir,
    Url,
    connect,
)
from services.cli.failures import UserError, reported

app = typer.Typer(no_args_is_help=True, help="What waits, what was given up, and trying that again.")

_LEASE_S = 30.0  # of no effect: the commands never lease work


@app.command()
def show(
    redis_url: RedisUrl = None,
    store_dir: StoreDir = None,
    state_dir: StateDir = STATE_DIR,
    queue_namespace: Namespace = None,
) -> None:
    """Depth of every stream, and all outstanding items with their history."""
    from services.cli.launcher.up import whereabouts  # noqa: PLC0415
    from services.cli.queue_admin import existing_store, queue_state  # noqa: PLC0415
    from services.cli.views.queue_tables import depths_table, items_table  # noqa: PLC0415
    from services.cli.views.screen import screen  # noqa: PLC0415
    from shared.store.artifacts.identity import namespace_of  # noqa: PLC0415
    from shared.store.queue.redis_queue import RedisQueue  # noqa: PLC0415

    with reported():
        found = None if redis_url else whereabouts(state_dir)
        address = redis_url or (found.redis_url if found is not None else None)
        if address is None:
            raise UserError(
                f"no system runs in {state_dir}: start one with `inpo up`, or name its Redis with --redis-url"
            )
        place = store_dir or (found.store_dir if found is not None else _store_dir(None, state_dir))
        namespace = queue_namespace or namespace_of(existing_store(place), None)
        try:
            queue = RedisQueue(address, consumer="inpo-queue-show", lease_s=_LEASE_S, namespace=namespace)
        except ValueError:  # its text may quote a piece of the address, and that a password
            raise UserError("--redis-url is no address of a Redis, such as redis://127.0.0.1:6379/0") from None
        depths, items = queue_state(queue, address)
        console = screen()
        console.print(depths_table(depths))
        if any(items.values()):
            console.print()
            console.print(items_table(items))


@app.command()
def dead(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Only of this run.")] = None,
    store_dir: StoreDir = None,
    state_dir: StateDir = STATE_DIR,
) -> None:
    """List work that was tried three times and given up, with the reason of every try."""
    from services.cli.queue_admin import dead_letters, existing_store  # noqa: PLC0415
    from services.cli.views.queue_tables import dead_table  # noqa: PLC0415
    from services.cli.views.screen import screen  # noqa: PLC0415

    with reported():
        found = dead_letters(existing_store(_store_dir(store_dir, state_dir)), run)
        screen().print(dead_table(found) if found else "no dead letters")


@app.command()
def retry(
    run: RunId,
    store_dir: StoreDir = None,
    url: Url = None,
    state_dir: StateDir = STATE_DIR,
    api_key_file: KeyFile = None,
) -> None:
    """Forget the dead letters of a failed run and resume it. Everything that succeeded is kept."""
    from services.cli.queue_admin import existing_store  # noqa: PLC0415
    from services.cli.queue_admin import retry as retry_run  # noqa: PLC0415

    with reported():
        store = existing_store(_store_dir(store_dir, state_dir))
        view, forgotten = retry_run(store, connect(url, state_dir, api_key_file), run)
        typer.echo(f"{view.id} is {view.state}; asking again for {len(forgotten)} given-up items")


def _store_dir(chosen: Path | None, state_dir: Path) -> Path:
    return chosen if chosen is not None else state_dir / "store"
