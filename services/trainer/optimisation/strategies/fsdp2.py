# torch's distributed modules are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false
"""torch's FSDP2: every parameter is a DTensor, of which a rank holds a slice, as of gradient and optimizer states."""

from collections.abc import Callable
from typing import Any, cast

import structlog
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from services.trainer.optimisation.strategies import adam_w, finite_norm, trained
from services.trainer.ranks import Ranks
from shared.contracts.spec import TrainingSpec

log = structlog.get_logger(__name__)


def shard(model: nn.Module, mesh: DeviceMesh, *, offload: bool = False) -> nn.Module:
    """The model, in place, in slices on the mesh's devices: every decoder layer, then the rest.

    A layer at a time is moved to the device and sliced, and a layer at a time is put together for its forward. With
    `offload` slices, gradients and optimizer states live in host memory.
    """
    policy = CPUOffloadPolicy() if offload else OffloadPolicy()
    layers = decoder_layers(model)
    if not layers:
        log.warning("layers_unknown", model=type(model).__name__, consequence="the model is gathered whole")
    for layer in layers:
        fully_shard(layer, mesh=mesh, offload_policy=policy)
    fully_shard(model, mesh=mesh, offload_policy=policy)
    if mesh.device_type != "cpu":
        # Frequencies of rotary embeddings and their like are no parameters: `fully_shard` moves them with their layer,
        # or not at all when parameters are offloaded.
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(mesh.device_type))
    return model


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The blocks that the architecture says must stay in one piece."""
    names: set[str] = set(cast(Any, model)._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


class Fsdp2:
    """See `Strategy`. `model` comes in host memory, whole, and belongs to the strategy from then on."""

    def __init__(
        self, model: nn.Module, spec: TrainingSpec, *, ranks: Ranks, mesh: DeviceMesh, offload: bool = False
    ) -> None:
        self.policy = shard(model, mesh, offload=offload)
        self._ranks = ranks
        self._parameters = trained(self.policy)
        self._optimizer = adam_w([(p, p.dim()) for p in self._parameters], spec)
        self._max_grad_norm = spec.max_grad_norm

    def backward(self, loss: Tensor) -> None:
        """See `Strategy.backward`."""
        # FSDP2 takes the mean over ranks.
        (loss * self._ranks.num).backward()

    def update(self, learning_rate: float) -> float:
        """See `Strategy.update`."""
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)
        found = finite_norm(float(norm.full_tensor() if isinstance(norm, DTensor) else norm))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return found

    def state(self) -> dict[str, Any]:
        """See `Strategy.state`."""
        optimizer = self._optimizer.state_dict()
        states = {
            index: {name: _own(value) for name, value in state.items()} for index, state in optimizer["state"].items()
        }
        return {
            "model": [_own(parameter.detach()) for parameter in self._parameters],
            "optimizer": {**optimizer, "state": states},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See `Strategy.restore`."""
        # After a forward, what is outside the layers stays put together, and would hide what is written here.
        cast(FSDPModule, self.policy).reshard()
        with torch.no_grad():
            for parameter, value in zip(self._parameters, state["model"], strict=True):
                cast(DTensor, parameter).to_local().copy_(value)
        in_order = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        states = {
            index: {name: _like(value, in_order[index]) for name, value in values.items()}
            for index, values in state["optimizer"]["state"].items()
        }
        self._optimizer.load_state_dict({**state["optimizer"], "state": states})

    def non_finite(self) -> str | None:
        """See `Strategy.non_finite`."""
        for name, parameter in self.policy.named_parameters():
            if not bool(torch.isfinite(_own(parameter.detach())).all()):
                return name
        return None

    def whole(self, plain: Callable[[], nn.Module]) -> nn.Module | None:
        """See `Strategy.whole`. A tensor at a time is put together, and kept in rank 0's host memory."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        tensors = get_model_state_dict(self.policy, options=options)
        if not self._ranks.first:
            return None
        model = plain()
        model.load_state_dict(tensors)
        return model


def _own(value: Any) -> Any:
    """The slice of this rank, in memory of its own."""
    return value.to_local().clone() if isinstance(value, DTensor) else value


def _like(value: Tensor, parameter: DTensor) -> Tensor:
    """A rank's slice of an optimizer state as a slice of the whole, as the parameter's is; AdamW's step is no slice."""
    if value.dim() == 0:
        return value
    return DTensor.from_local(
        value.to(parameter.to_local().device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
