# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""What a half-step can pick up after a crash: log-probs of the frozen policies, and the state of the optimisation.

Everything here can be lost and is then computed again. Files carry the digest of the work that they belong to; another
one's, or a broken file, is ignored with a log line. Nothing is unpickled but tensors and plain numbers.
"""

import os
import pickle
import secrets
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import structlog
import torch

from services.trainer.forward.log_probs import LogProbs
from shared.contracts.weights import WeightVersion

log = structlog.get_logger(__name__)

BROKEN = (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile)


class Checkpoints(Protocol):
    """Where a half-step keeps what it can pick up. With several ranks every method is called by all of them."""

    def log_probs(self, version: WeightVersion, num: int, compute: Callable[[], LogProbs]) -> LogProbs:
        """The stored log-probs [num] of a version, computed and stored when there are none."""
        ...

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        """Replace the checkpoint; a crash meanwhile leaves the one before it."""
        ...

    def restore(self, restore: Callable[[dict[str, Any]], None]) -> tuple[int, dict[str, float]]:
        """Hand the checkpoint's state to `restore`; its step and metrics, (0, {}) when there is none to use."""
        ...

    def remove(self) -> None:
        """The work is published: nothing here is needed any more."""
        ...


class Workspace:
    """A half-step's folder of mutable files. `work` names the plan and the pairs that the files are about."""

    def __init__(self, folder: Path, work: str) -> None:
        self._folder = folder
        self._work = work

    def log_probs(self, version: WeightVersion, num: int, compute: Callable[[], LogProbs]) -> LogProbs:
        """The stored log-probs [num] of a version, computed and stored when there are none."""
        stored = self.stored_log_probs(version, num)
        if stored is None:
            stored = compute()
            values = stored
            write_durably(
                self._log_probs_path(version), lambda file: np.savez(file, values=values, work=np.array(self._work))
            )
        return stored

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        """Replace the checkpoint; a crash meanwhile leaves the one before it."""
        content = {"work": self._work, "step": step, "state": state, "metrics": metrics}
        write_durably(self._folder / "checkpoint.pt", lambda file: torch.save(content, file))

    def restore(self, restore: Callable[[dict[str, Any]], None]) -> tuple[int, dict[str, float]]:
        """Hand the checkpoint's state to `restore`; its step and metrics, (0, {}) when there is none to use."""
        path = self._folder / "checkpoint.pt"
        if not path.exists():
            return 0, {}
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if content["work"] != self._work:
                log.warning("checkpoint_ignored", path=str(path), reason="it belongs to another plan or other pairs")
                return 0, {}
            step, metrics, state = int(content["step"]), dict(content["metrics"]), content["state"]
        except BROKEN as error:
            log.warning("checkpoint_ignored", path=str(path), reason=repr(error))
            return 0, {}
        restore(state)
        log.info("checkpoint_restored", step=step)
        return step, metrics

    def remove(self) -> None:
        """The work is published: nothing here is needed any more."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def stored_log_probs(self, version: WeightVersion, num: int) -> LogProbs | None:
        """The stored log-probs [num] of a version; None when there are none to use."""
        path = self._log_probs_path(version)
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                work, values = str(content["work"]), np.asarray(content["values"])
        except BROKEN as error:
            log.warning("log_probs_ignored", path=str(path), reason=repr(error))
            return None
        if work != self._work or values.shape != (num,) or values.dtype != np.float32:
            log.warning("log_probs_ignored", path=str(path), reason="they belong to another plan or other pairs")
            return None
        return values

    def _log_probs_path(self, version: WeightVersion) -> Path:
        return self._folder / f"log-probs-{version.digest[:16]}.npz"


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace the file by what `write` writes, or leave it as it is; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
