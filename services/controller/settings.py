"""Settings of the controller."""

from shared.runtime.http import HttpSettings


class ControllerSettings(HttpSettings):
    """Read from `INPO_…` environment variables."""

    port: int = 8000
