"""Options that several commands share, and the connections that they lead to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.cli.client import Api

DEFAULT_URL = "http://127.0.0.1:8000"

StateDir = Annotated[
    Path, typer.Option("--state-dir", envvar="INPO_STATE_DIR", help="Folder of the all-in-one system's state.")
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="INPO_URL",
        help=f"Address of the controller; by default that of the system in --state-dir, else {DEFAULT_URL}.",
    ),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, as `inpo runs` shows it.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file", envvar="INPO_API_KEY_FILE", help="Key file; the first key in it is sent to the controller."
    ),
]
StoreDir = Annotated[
    Path | None,
    typer.Option(
        "--store-dir",
        envvar="INPO_STORE_DIR",
        help="The artifact store; by default the one in --state-dir.",
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar=["INPO_REDIS_URL", "REDIS_URL"],
        help="Redis of the queue; by default that of the system in --state-dir (`up`: one of its own).",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--queue-namespace",
        envvar="INPO_QUEUE_NAMESPACE",
        help="What the system's keys in Redis begin with; by default named after its artifact store.",
    ),
]
STATE_DIR = Path(".inpo")


def connect(url: str | None, state_dir: Path, key_file: Path | None) -> "Api":
    """The controller that the options name; the key itself may come from INPO_API_KEY.

    `UserError` where only a file that may be somebody else's says where it is.
    """
    import os  # noqa: PLC0415  (heavy imports stay out of `inpo --help`)

    from services.cli.client import Api, bearer_key  # noqa: PLC0415
    from services.cli.launcher.up import whereabouts  # noqa: PLC0415

    found = None if url else whereabouts(state_dir)
    address = url or (found.url if found is not None else DEFAULT_URL)
    return Api(address, bearer_key(key_file, os.environ.get("INPO_API_KEY")))
