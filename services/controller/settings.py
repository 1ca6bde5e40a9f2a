"""Settings of the controller."""

from pydantic import Field

from shared.runtime.http import HttpSettings


class ControllerSettings(HttpSettings):
    """Read from `INPO_…` environment variables."""

    port: int = Field(default=8000, ge=0, le=65535, description="Port of the controller's API.")
