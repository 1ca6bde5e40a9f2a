"""Weight versions: `(run, number, digest)`, and the manifest that proves one."""

from typing import Literal, Self

from pydantic import Field

from shared.contracts.base import Fact


class WeightVersion(Fact):
    """The weights that every rollout, judgment, metric and log line names. Number 0 is the reference policy.

    A version with `half` is no iterate but what half-step `half` of iteration `number` made on the way to version
    `number`: it is sampled from and trained like any other, never committed, evaluated or promoted.
    """

    run: str
    number: int = Field(ge=0)
    half: int | None = Field(default=None, ge=1, description="null for an iterate, the result of a whole iteration")
    digest: str = Field(description="sha256 of the manifest's file list")
    directory: str = Field(description="key of the Hugging Face directory in the artifact store")

    def __str__(self) -> str:
        return f"{self.run}/v{label(self.number, self.half)}@{self.digest[:12]}"

    @property
    def name(self) -> str:
        """`run@number`: how people and requests address it; unambiguous, as a run commits a number once."""
        return f"{self.run}@{self.number}"


def label(number: int, half: int | None) -> str:
    """How people see a version's number: `3` for an iterate, `3.half-1` for what a half-step made on the way to it."""
    return str(number) if half is None else f"{number}.half-{half}"


Precision = Literal["float32", "float16", "bfloat16"]
"""What an engine computes in, whatever its weights are stored in."""


def coarsest(*precisions: Precision) -> Precision:
    """The one that rounds most; float32 without any."""
    if "bfloat16" in precisions:
        return "bfloat16"
    return "float16" if "float16" in precisions else "float32"


class FileDigest(Fact):
    """One file of a weights directory."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(Fact):
    """`manifest.json`, written last: a directory without it is unfinished and never loaded."""

    number: int
    half: int | None = Field(default=None, description="null for an iterate; see `WeightVersion`")
    parent: str | None = Field(description="digest of the version that training started from")
    files: list[FileDigest]
    num_parameters: int
    finite: bool = Field(description="the trainer checked every tensor for NaN and infinity")


class Canary(Fact):
    """`canary.json`: token sequences, and the trainer's log-probs of their tokens from `starts` on, in full float32.

    `log_probs` are under these weights, `parent_log_probs` under the version that training started from (the same
    values for the reference policy): an engine that still serves the old weights, or a part of them, is told apart.
    The reference policy's sequences are its own samples; a trained version's are responses that it was trained on,
    because these are what training moved most.
    """

    sequences: list[list[int]]
    starts: list[int] = Field(
        default=[], description="index of the first token compared, of each sequence; empty: all after the first are"
    )
    log_probs: list[list[float]]
    parent_log_probs: list[list[float]]

    def first_compared(self) -> list[int]:
        """Index of the first token that is compared, of each sequence."""
        return self.starts or [1] * len(self.sequences)

    def num_compared(self) -> list[int]:
        """How many tokens are compared, of each sequence."""
        return [len(ids) - start for ids, start in zip(self.sequences, self.first_compared(), strict=True)]

    def part(self, start: int, end: int) -> Self:
        """The sequences of a range, with what belongs to them."""
        fields = {name: rows[start:end] for name, rows in self}
        return self.model_copy(update=fields)


class Promotion(Fact):
    """`promotions/0004.json`: what outsiders are served from then on; the highest number is in force."""

    number: int = Field(ge=1)
    action: Literal["promote", "rollback"]
    version: WeightVersion
    at: str = Field(description="RFC 3339, UTC")
    by: str = Field(description="which key asked: where it stands, never what it is")
    previous: int | None = Field(description="the promotion that a rollback from here returns to; null: to none")
    request: str | None = Field(default=None, description="digest of the request's Idempotency-Key, where it had one")


class PromotedWeights(Fact):
    """`GET /v1/weights/promoted`."""

    current: Promotion | None = Field(description="null until something is promoted")
    history: list[Promotion] = Field(description="all promotions and rollbacks that can be read, newest first")
    problem: str | None = Field(
        default=None, description="which of them cannot be read; outsiders are refused while it is the newest"
    )
