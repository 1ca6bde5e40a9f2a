# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""What several ranks can pick up after a crash: every rank's own state, and one small file that says it is complete.

    log-probs-….npz               written and read by rank 0
    checkpoint-400-rank-1.pt      tensors and numbers of one rank after optimizer step 400
    checkpoint.json               which step, of which work and layout; replaced when all ranks' files are durable

A change of layout between two tries, e.g. of the number of ranks, begins the optimisation anew.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from pydantic import BaseModel, ValidationError

from services.trainer.checkpoints.workspace import BROKEN, write_durably
from services.trainer.checkpoints.workspace import Workspace as OwnWorkspace
from services.trainer.forward.log_probs import LogProbs
from services.trainer.ranks import Ranks
from shared.contracts.weights import WeightVersion

log = structlog.get_logger(__name__)

HEAD = "checkpoint.json"


class Head(BaseModel):
    """What `checkpoint.json` says."""

    work: str
    layout: str
    step: int
    metrics: dict[str, float]


class SharedWorkspace:
    """See `Checkpoints`. `layout` names the strategy and the number of ranks that a state belongs to."""

    def __init__(self, folder: Path, work: str, ranks: Ranks, layout: str) -> None:
        self._folder = folder
        self._work = work
        self._ranks = ranks
        self._layout = layout
        self._own = OwnWorkspace(folder, work)

    def log_probs(self, version: WeightVersion, num: int, compute: Callable[[], LogProbs]) -> LogProbs:
        """See `Checkpoints.log_probs`."""
        stored = self._own.stored_log_probs(version, num) if self._ranks.first else None
        # All ranks compute, or none: their models are parts of one.
        if int(self._ranks.sum(torch.tensor(int(stored is not None)))) == 0:
            found = compute()
            return self._own.log_probs(version, num, lambda: found) if self._ranks.first else found
        values = np.zeros(num, dtype=np.float32) if stored is None else stored
        return self._ranks.sum(torch.from_numpy(values)).numpy()

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float]) -> None:
        """See `Checkpoints.save`."""
        content = {"work": self._work, "step": step, "state": state}
        write_durably(self._path(step), lambda file: torch.save(content, file))
        self._ranks.wait()
        if self._ranks.first:
            head = Head(work=self._work, layout=self._layout, step=step, metrics=metrics)
            write_durably(self._folder / HEAD, lambda file: file.write(head.model_dump_json().encode()))
        self._ranks.wait()
        for file in self._folder.glob(f"checkpoint-*-rank-{self._ranks.rank}.pt"):
            if file != self._path(step):
                file.unlink()

    def restore(self, restore: Callable[[dict[str, Any]], None]) -> tuple[int, dict[str, float]]:
        """See `Checkpoints.restore`."""
        head = self._head()
        if head is None:
            return 0, {}
        state = self._state(head.step)
        # A state that one rank cannot read helps nobody.
        if not self._ranks.all(state is not None) or state is None:
            return 0, {}
        restore(state)
        log.info("checkpoint_restored", step=head.step)
        return head.step, head.metrics

    def remove(self) -> None:
        """See `Checkpoints.remove`; called by rank 0, when no other rank needs anything any more."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _head(self) -> Head | None:
        path = self._folder / HEAD
        if not path.exists():
            return None
        try:
            head = Head.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            log.warning("checkpoint_ignored", path=str(path), reason=repr(error))
            return None
        if head.work != self._work:
            log.warning("checkpoint_ignored", path=str(path), reason="it belongs to another plan or other pairs")
            return None
        if head.layout != self._layout:
            reason = f"it is of {head.layout}, this is {self._layout}: the half-step is trained anew"
            log.warning("checkpoint_ignored", path=str(path), reason=reason)
            return None
        return head

    def _state(self, step: int) -> dict[str, Any] | None:
        path = self._path(step)
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if (content["work"], content["step"]) != (self._work, step):
                raise ValueError("it belongs to another plan or other pairs")
            return dict(content["state"])
        except BROKEN as error:
            log.warning("checkpoint_ignored", path=str(path), reason=repr(error))
            return None

    def _path(self, step: int) -> Path:
        return self._folder / f"checkpoint-{step}-rank-{self._ranks.rank}.pt"
