# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""How one optimizer step is carried out: the seam behind which sharded training goes."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from services.trainer.errors import TrainingDivergedError
from shared.contracts.spec import TrainingSpec


class Strategy(Protocol):
    """What the iteration asks of every way to train. Gradients add up between two updates."""

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient."""
        ...

    def update(self, learning_rate: float) -> float:
        """Clip, step and clear the gradient; its norm before clipping. `TrainingDivergedError` if not finite."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and numbers from which `restore` goes on bit for bit."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


class SingleProcess:
    """One process, one device: AdamW in float32. Vectors (norms, biases) are not decayed."""

    def __init__(self, model: nn.Module, spec: TrainingSpec) -> None:
        self._model = model
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in self._parameters if p.dim() >= 2], "weight_decay": spec.weight_decay},
            {"params": [p for p in self._parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=spec.learning_rate, fused=True
        )
        self._max_grad_norm = spec.max_grad_norm

    def backward(self, loss: Tensor) -> None:
        """See `Strategy.backward`."""
        loss.backward()

    def update(self, learning_rate: float) -> float:
        """See `Strategy.update`."""
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm))
        if not math.isfinite(norm):
            raise TrainingDivergedError(f"the gradient's norm is {norm}: lower training.learning_rate")
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        """See `Strategy.state`."""
        return {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Strategy.restore`."""
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
