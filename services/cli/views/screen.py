"""Standard output for people and for pipes."""

from rich.console import Console

_PIPE_WIDTH = 240


def screen() -> Console:
    """A console as wide as the terminal; into a pipe or a file, lines are not folded at all."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)
