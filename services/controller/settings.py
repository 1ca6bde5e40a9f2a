"""Settings of the controller."""

from pathlib import Path

from pydantic import Field

from shared.runtime.http.app import HttpSettings


class ControllerSettings(HttpSettings):
    """Read from `INPO_…` environment variables."""

    port: int = Field(default=8000, ge=0, le=65535, description="Port of the controller's API.")
    served_model: Path | None = Field(
        default=None,
        description="Model directory that the engine was started on, when it can serve no other architecture (vLLM): "
        "runs of another one are refused at creation. Unset for the engine `transformers`, which serves any.",
    )
