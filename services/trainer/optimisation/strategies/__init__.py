# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""How one optimizer step is carried out: the seam behind which sharded training goes.

    single      one process, one device
    fsdp2       torch's `fully_shard`: parameters, gradients and optimizer states in shards
    deepspeed   ZeRO stage 1 (optimizer states in shards), 2 (and gradients), 3 (and parameters)

All three minimise the same loss by the same AdamW: what differs is where the numbers live.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from services.trainer.errors import TrainingDivergedError
from shared.contracts.spec import TrainingSpec


class Strategy(Protocol):
    """What the iteration asks of every way to train. Gradients add up between two updates.

    With several ranks every method is called by all of them, in the same order.
    """

    @property
    def policy(self) -> nn.Module:
        """The policy to call for logits, wherever its parameters live."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this rank's loss; the gradient that is stepped along is the sum over ranks."""
        ...

    def update(self, learning_rate: float) -> float:
        """Clip, step and clear the gradient; its global norm before clipping. `TrainingDivergedError` if not finite."""
        ...

    def state(self) -> dict[str, Any]:
        """The rank's tensors and numbers from which `restore` goes on bit for bit, with as many ranks as now."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from this rank's state."""
        ...

    def non_finite(self) -> str | None:
        """The name of a trained tensor of which this rank's part holds NaN or infinity."""
        ...

    def whole(self, plain: Callable[[], nn.Module]) -> nn.Module | None:
        """The trained policy in one piece, on rank 0; None on the others.

        `plain` makes a model of the same architecture in host memory, to put the tensors in where they are scattered.
        """
        ...


MakeStrategy = Callable[[nn.Module, TrainingSpec], Strategy]


def adam_w(named: list[tuple[nn.Parameter, int]], spec: TrainingSpec) -> torch.optim.AdamW:
    """The optimizer of every strategy over parameters, each with its number of dimensions before sharding.

    Vectors (norms, biases) are not decayed.
    """
    groups = [
        {"params": [p for p, num in named if num >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p, num in named if num < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=spec.learning_rate, fused=True)


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, in the model's order, a tied one once."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def finite_norm(norm: float) -> float:
    """The norm; `TrainingDivergedError` if it is not finite."""
    if not math.isfinite(norm):
        raise TrainingDivergedError(f"the gradient's norm is {norm}: lower training.learning_rate")
    return norm


def recompute_activations(model: nn.Module) -> None:
    """Gradient checkpointing: every decoder layer keeps its inputs only and is computed again for the backward pass.

    `ValueError` for an architecture that cannot.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer  # noqa: PLC0415  (slow)

    try:
        cast(Any, model).gradient_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise ValueError(f"trainer_gradient_checkpointing: {error}") from error
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # transformers recomputes in training mode only. What is inside the layer stays in eval mode: no dropout.
            module.training = True
