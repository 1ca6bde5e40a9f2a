"""Settings of the trainer."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from shared.runtime.settings import Settings


class TrainerSettings(Settings):
    """Read from `INPO_…` environment variables, e.g. `INPO_TRAINER_DEVICE`."""

    # An error of two settings would otherwise show all others, the queue's password among them.
    model_config = SettingsConfigDict(hide_input_in_errors=True)

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
        description="What forward and backward compute in; weights and optimizer stay float32.",
    )
    trainer_num_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the trainer, of each process; torch decides if unset."
    )
    trainer_strategy: Literal["single", "fsdp2", "deepspeed"] = Field(
        default="single",
        description="`single`: in the worker's own process. `fsdp2` (torch's `fully_shard`) and `deepspeed` (ZeRO): "
        "in a process group that is started for each item and leaves the devices free between items.",
    )
    trainer_num_processes: int = Field(
        default=1, ge=1, description="Processes of `fsdp2` and `deepspeed`, each with a GPU of its own on GPUs."
    )
    trainer_zero_stage: Literal[1, 2, 3] | None = Field(
        default=None,
        description="What `deepspeed` holds in shards: optimizer states (1), also gradients (2), also parameters (3); "
        "2 if unset.",
    )
    trainer_offload_optimizer: bool = Field(
        default=False,
        description="Optimizer states live in host memory: `deepspeed`, and `fsdp2` together with the parameters.",
    )
    trainer_offload_parameters: bool = Field(
        default=False,
        description="Parameters live in host memory between their uses: `deepspeed` at stage 3, and `fsdp2`.",
    )
    trainer_gradient_checkpointing: bool = Field(
        default=False,
        description="Activations are computed again for the backward pass instead of kept: less memory, a third more "
        "time.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for wrong, remedy in _contradictions(self):
            if wrong:
                raise ValueError(remedy)
        return self


def _contradictions(settings: TrainerSettings) -> list[tuple[bool, str]]:
    strategy, stage = settings.trainer_strategy, settings.trainer_zero_stage
    optimizer, parameters = settings.trainer_offload_optimizer, settings.trainer_offload_parameters
    return [
        (
            strategy == "single" and settings.trainer_num_processes > 1,
            f"trainer_num_processes is {settings.trainer_num_processes}, but trainer_strategy single has one process: "
            "set trainer_strategy to fsdp2 or deepspeed",
        ),
        (
            strategy == "single" and settings.device_lock is not None and settings.trainer_device != "cpu",
            "device_lock needs a trainer whose memory is free between two items, but trainer_strategy single keeps its "
            "models: set trainer_strategy to fsdp2 or deepspeed, also for one process",
        ),
        (
            strategy != "deepspeed" and stage is not None,
            f"trainer_zero_stage is DeepSpeed's, but trainer_strategy is {strategy}: unset it, or set trainer_strategy "
            "to deepspeed",
        ),
        (
            strategy == "single" and (optimizer or parameters),
            "trainer_offload_optimizer and trainer_offload_parameters need trainer_strategy fsdp2 or deepspeed",
        ),
        (
            strategy == "fsdp2" and optimizer != parameters,
            "trainer_strategy fsdp2 offloads parameters and optimizer together: set both trainer_offload_optimizer and "
            "trainer_offload_parameters, or neither",
        ),
        (
            strategy == "deepspeed" and parameters and stage != 3,
            "trainer_offload_parameters needs trainer_zero_stage 3: at a lower stage every process computes with whole "
            "parameters",
        ),
        (
            strategy != "single" and ":" in settings.trainer_device,
            f"trainer_device {settings.trainer_device} names one device, but trainer_strategy {strategy} gives every "
            "process its own: set trainer_device to cuda, and choose devices by CUDA_VISIBLE_DEVICES",
        ),
    ]
