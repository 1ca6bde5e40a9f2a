"""What a worker and the processes of its training group tell one another: small JSON files in a folder of their own."""

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from services.trainer import errors
from services.trainer.settings import TrainerSettings
from shared.contracts.work import WorkItem
from shared.store.artifacts.refusals import refusal
from shared.store.artifacts.store import CorruptArtifactError, MissingArtifactError
from shared.store.weights.manifests import WeightsError

ASSIGNMENT = "assignment.json"
LIFELINE = "lifeline"
RESULT = "result.json"
DEATHS = "deaths.json"

# Raised by a rank, raised again by the worker: they say what is wrong with the work, whoever finds it.
_KNOWN: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        errors.WrongPolicyError,
        errors.NotFiniteError,
        errors.TrainingDivergedError,
        errors.NoPairsError,
        errors.DeviceError,
        CorruptArtifactError,
        MissingArtifactError,
        WeightsError,
    )
}


class Assignment(BaseModel):
    """What a group has to do. Credentials are no part of it: a rank needs no queue."""

    item: WorkItem
    settings: TrainerSettings


class Result(BaseModel):
    """Rank 0: the work is durable."""

    summary: dict[str, Any]


class Failure(BaseModel):
    """A rank's exception; `errno` says with what the storage refused, where it did."""

    rank: int
    error: str
    message: str
    errno: int | None = None
    at_s: float

    def exception(self) -> Exception | None:
        """The exception that the worker raises in the rank's stead: one that says what is wrong with the work.

        None for others, which may be consequences of another rank's end.
        """
        if self.errno is not None:
            told = OSError(self.errno, os.strerror(self.errno), f"rank {self.rank}: {self.message}")
            if refusal(told) is not None:
                return told
        kind = _KNOWN.get(self.error)
        return None if kind is None else kind(self.message)


class Death(BaseModel):
    """How a rank ended that did not end well: `exit_code` is negative for a signal."""

    rank: int
    exit_code: int


class Deaths(BaseModel):
    """What the launcher of the ranks saw first."""

    deaths: list[Death]


def write_json(path: Path, content: BaseModel, *, exclude: dict[str, set[str]] | None = None) -> None:
    """Whole or not at all, without the fields `exclude`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content.model_dump_json(exclude=exclude), encoding="utf-8")
    temporary.replace(path)


def failure_path(folder: Path, rank: int) -> Path:
    """Where a rank leaves its failure."""
    return folder / f"failure-{rank}.json"


def failures(folder: Path) -> list[Failure]:
    """All ranks' failures, the first one first."""
    found = [Failure.model_validate_json(path.read_bytes()) for path in folder.glob("failure-*.json")]
    return sorted(found, key=lambda failure: failure.at_s)
