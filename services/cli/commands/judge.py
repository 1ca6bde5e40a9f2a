"""`inpo check-judge`: whether somebody else's judge keeps the promises of `POST /v1/judgments`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from services.cli.failures import UserError, reported

TIMEOUT_S = 300.0


def check_judge(
    url: Annotated[str, typer.Argument(metavar="URL", help="Full address, e.g. http://127.0.0.1:9000/v1/judgments")],
    judge: Annotated[
        str | None, typer.Option(help="What to ask there: a name, or a judge's specification as JSON.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="File whose first line is the bearer key.")] = None,
) -> None:
    """Check a judge behind a URL: identity, answers, ids, repeats, positions, bad requests.

    Ends with exit code 1 when it breaks a promise.
    """
    import httpx  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from services.cli.client import bearer_key  # noqa: PLC0415
    from services.cli.judge_check import JudgeCheck  # noqa: PLC0415
    from services.cli.views.screen import screen  # noqa: PLC0415

    with reported():
        key = bearer_key(key_file, None)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        table = Table("", "promise", "found", box=None, header_style="bold", pad_edge=False)
        marks = {"passed": "[green]kept[/]", "failed": "[red]BROKEN[/]", "noted": "[yellow]note[/]"}
        failed = 0
        with httpx.Client(headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            for finding in JudgeCheck(client, url, _judge(judge)).run():
                failed += finding.outcome == "failed"
                table.add_row(marks[finding.outcome], finding.promise, finding.detail.replace("[", r"\["))
        screen().print(table)
        if failed:
            raise UserError(f"{url} breaks {failed} promises")


def _judge(text: str | None) -> object:
    """A name as it is; what looks like an object as JSON."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"--judge is not JSON: {error}") from None


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("check-judge")(check_judge)
