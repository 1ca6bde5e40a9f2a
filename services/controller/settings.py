"""Settings of the controller."""

from pathlib import Path

from pydantic import Field

from services.controller.prompts.limits import PromptLimits
from shared.runtime.http.app import HttpSettings

_LIMITS = PromptLimits()


class ControllerSettings(HttpSettings):
    """Read from `INPO_…` environment variables."""

    port: int = Field(default=8000, ge=0, le=65535, description="Port of the controller's API.")
    max_prompt_rows: int = Field(
        default=_LIMITS.rows, ge=1, description="Rows that a prompt set may have; beyond, `limit` must be given."
    )
    max_prompt_row_bytes: int = Field(
        default=_LIMITS.row_bytes, ge=1, description="Bytes that a row of a prompt set may have; others are skipped."
    )
    max_prompt_ratio: int = Field(
        default=_LIMITS.ratio,
        ge=1,
        description="How many times its own size a compressed prompt file may become, beyond 64 MiB.",
    )
    served_model: Path | None = Field(
        default=None,
        description="Model directory that the engine was started on, when it can serve no other architecture (vLLM): "
        "runs of another one are refused at creation. Unset for the engine `transformers`, which serves any.",
    )

    @property
    def prompt_limits(self) -> PromptLimits:
        """What is read of prompt files."""
        return PromptLimits(self.max_prompt_rows, self.max_prompt_row_bytes, self.max_prompt_ratio)
