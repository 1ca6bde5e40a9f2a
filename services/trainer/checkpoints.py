# torch.save and torch.load are only partly typed.
# pyright: reportUnknownMemberType=false
"""Checkpoints inside an iteration: what a resumed training needs to end in bit-identical weights."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import structlog
import torch
from torch import Tensor

log = structlog.get_logger(__name__)


class Checkpoints:
    """Checkpoints and anchors' log-probs of one plan, in a scratch folder named by the plan's digest.

    Files are replaced atomically and read without pickled objects; a broken one is as good as none, and is logged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Keep a state of tensors, numbers and containers, durably, under a name."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{name}.{os.getpid()}"
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / name)

    def load(self, name: str) -> dict[str, Any] | None:
        """The state under a name, None when there is none that can be read."""
        path = self._folder / name
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
            log.warning("checkpoint_ignored", path=str(path), error=str(error))
            return None

    def tensor(self, name: str) -> Tensor | None:
        """A tensor saved by `save_tensor`."""
        state = self.load(name)
        return None if state is None else state["tensor"]

    def save_tensor(self, name: str, tensor: Tensor) -> None:
        """Keep one tensor under a name."""
        self.save(name, {"tensor": tensor})

    def remove(self) -> None:
        """The iteration is published; nothing here is needed any more."""
        for file in self._folder.glob("*") if self._folder.exists() else ():
            file.unlink(missing_ok=True)
