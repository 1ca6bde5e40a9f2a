"""What a plan needs to know of a prompt."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol

Split = Literal["train", "held_out"]


class Listed(Protocol):
    """A prompt, with its text or without."""

    @property
    def prompt_id(self) -> str:
        """Unique in its run."""
        ...

    @property
    def split(self) -> Split:
        """What it is for."""
        ...

    @property
    def set(self) -> int:
        """Index of its training set."""
        ...


class ListedPrompt(NamedTuple):
    """A prompt without its text: of a million, few fit into memory with theirs."""

    prompt_id: str
    split: Split
    set: int


def rows_of(prompts: Iterable[Listed], split: Split, index: int = 0) -> list[int]:
    """Row numbers of a split (and, for training, of one set) in the run's prompts."""
    return [
        row
        for row, prompt in enumerate(prompts)
        if prompt.split == split and (split == "held_out" or prompt.set == index)
    ]
