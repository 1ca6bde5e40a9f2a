"""Settings: one typed place for configuration, read from the environment with the prefix INPO_."""

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What every service reads. `INPO_REDIS_URL` sets `redis_url`, and so on."""

    model_config = SettingsConfigDict(env_prefix="INPO_", env_ignore_empty=True, extra="ignore", frozen=True)

    store_dir: Path = Field(
        default=Path(".inpo/store"),
        description="Directory of the artifact store. With `store_url`: of what this machine alone needs, such as "
        "checkpoints inside an iteration.",
    )
    store_url: str | None = Field(
        default=None,
        pattern=r"^(s3|gs|az)://[^/]+",
        description="Object store of the artifacts, e.g. `s3://bucket/prefix`, in place of a directory. Keys, region "
        "and endpoint are the cloud's own variables (AWS_…, GOOGLE_…, AZURE_…).",
    )
    staging_dir: Path | None = Field(
        default=None,
        description="Where weights of an object store are fetched to; a folder in memory is fastest. A vLLM server "
        "must see it under the same path. Unset: `staged` in `store_dir`.",
    )
    max_staged_bytes: int = Field(
        default=200 * 2**30,
        ge=0,
        description="Fetched weights beyond this are evicted, the longest unused first; never what was in use within "
        "15 minutes.",
    )
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0", repr=False, description="Where the queue lives; may hold a password."
    )
    queue_namespace: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="What every key of this system begins with in Redis, the same for all its services. By default a "
        "name after the artifact store, so that systems with stores of their own may share a database.",
    )
    allowed_paths: tuple[Path, ...] | None = Field(
        default=None,
        description="Folders, as JSON, below which models, judges and prompts of runs and requests must be, links "
        "followed. Unset: any place where the service has no key, none where it has.",
    )
    allow_hub: bool | None = Field(
        default=None,
        description="Whether runs and requests may name what is to be had from the hub. Unset: where the service has "
        "no key.",
    )
    lease_s: float = Field(
        default=30.0, ge=0.5, description="Work of a worker that fell silent for this long is given to another one."
    )
    deadline_s: float = Field(
        default=3600.0, gt=0.0, description="A worker that needs longer for one item is ended, and the try counted."
    )
    drain_s: float = Field(default=20.0, ge=0.0, description="How long a worker that is told to stop may go on.")
    device_lock: Path | None = Field(
        default=None,
        description="A file, the same for policy and trainer of a machine, where both share one accelerator: one works "
        "while the other lets go of it. A vLLM server must be started with --enable-sleep-mode then.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log line."
    )

    def consumer(self, service: str) -> str:
        """A name in the queue that no other live process has."""
        return f"{socket.gethostname()}-{service}-{os.getpid()}"
