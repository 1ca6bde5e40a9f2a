"""Settings of the trainer."""

from typing import Literal

from pydantic import Field

from shared.runtime.settings import Settings


class TrainerSettings(Settings):
    """Read from `INPO_…` environment variables, e.g. `INPO_TRAINER_DEVICE`."""

    trainer_backend: str = Field(
        default="services.trainer.worker:TrainHandler",
        description="`module:callable`; called with the artifact store and these settings, it returns the handler.",
    )
    trainer_device: str = Field(
        default="auto",
        description="Where the policy is trained: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`.",
    )
    deadline_s: float = Field(
        default=7 * 24 * 3600.0,
        gt=0.0,
        description="A trainer that needs longer for one iteration is ended, and the try counted.",
    )
    trainer_dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="What forward and backward compute in; weights and optimizer stay float32. Below float32 the "
        "tolerances of step 0 and of the witness must be wider.",
    )
    trainer_num_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the trainer; torch decides if unset."
    )
