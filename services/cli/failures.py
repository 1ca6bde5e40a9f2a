"""Errors that a person can do something about.

```
UserError                 what is wrong and what to do, in one or a few lines; the command ends with exit code 1
├── SpecError             a run file that cannot be used
├── ApiError              the controller refused, or cannot be reached
└── StartError            the all-in-one system did not come up
```
"""

from collections.abc import Generator
from contextlib import contextmanager


class UserError(Exception):
    """The message is shown as it is, without a traceback."""


class SpecError(UserError):
    """A run file that cannot be used."""


class ApiError(UserError):
    """The controller refused (`status` says how), or gave no answer (`status` is None).

    `unsent`: it was not even reached, so nothing can have happened there.
    """

    def __init__(
        self, message: str, status: int | None = None, *, retryable: bool = False, unsent: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable
        self.unsent = unsent


class StartError(UserError):
    """The all-in-one system did not come up; the message holds the end of the log that says why."""


@contextmanager
def reported() -> Generator[None]:
    """Show a `UserError` on stderr and end the command with exit code 1."""
    try:
        yield
    except UserError as error:
        import typer  # noqa: PLC0415  (the launcher is used without the command line, too)
        from rich.console import Console  # noqa: PLC0415

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print("[bold red]error:[/]", end=" ")
        console.print(str(error), markup=False)
        raise typer.Exit(1) from None
