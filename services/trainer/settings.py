"""Settings of the trainer."""

from typing import Literal

from pydantic import Field

from shared.runtime.settings import Settings


class TrainerSettings(Settings):
    """Read from `INPO_…` environment variables, e.g. `INPO_DEVICE`."""

    backend: str = Field(
        default="services.trainer.worker:TrainHandler",
        description="`module:callable`; called with the store and these settings, it returns the handler of `train`.",
    )
    device: str = Field(default="auto", description="`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`.")
    trainer_dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Of the weights in training and of every version that is published."
    )
    num_threads: int | None = Field(default=None, ge=1, description="CPU threads; torch decides if unset.")
