"""Weight versions: `(run, number, digest)`, and the manifest that proves one."""

from pydantic import Field

from shared.contracts.base import Fact


class WeightVersion(Fact):
    """The weights that every rollout, judgment, metric and log line names. Number 0 is the reference policy."""

    run: str
    number: int = Field(ge=0)
    digest: str = Field(description="sha256 of the manifest's file list")
    directory: str = Field(description="key of the Hugging Face directory in the artifact store")

    def __str__(self) -> str:
        return f"{self.run}/v{self.number}@{self.digest[:12]}"


class FileDigest(Fact):
    """One file of a weights directory."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(Fact):
    """`manifest.json`, written last: a directory without it is unfinished and never loaded."""

    number: int
    parent: str | None = Field(description="digest of the version that training started from")
    files: list[FileDigest]
    num_parameters: int
    finite: bool = Field(description="the trainer checked every tensor for NaN and infinity")


class Canary(Fact):
    """`canary.json`: fixed token sequences with the trainer's log-probs of every token after the first.

    `log_probs` are under these weights, `parent_log_probs` under the version that training started from (the same
    values for the reference policy): an engine that still serves the old weights, or a part of them, is told apart.
    """

    sequences: list[list[int]]
    log_probs: list[list[float]]
    parent_log_probs: list[list[float]]
