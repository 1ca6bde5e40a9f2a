# deepspeed is untyped, torch only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false
"""DeepSpeed's ZeRO by `deepspeed.initialize`, without Accelerate, without its launcher, and without its JIT builds.

deepspeed is imported here and nowhere else, and only when a strategy is made: it is slow.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist

from services.trainer.errors import TrainingDivergedError
from services.trainer.optimisation.strategies import adam_w, finite_norm
from services.trainer.ranks import Ranks
from shared.contracts.spec import TrainingSpec

ZeroStage = Literal[1, 2, 3]

# Objects with code of their own, which a checkpoint that is safe to read cannot hold. It does without: in float32
# nothing is scaled, and mappings are made anew.
_LOSS_SCALER = "loss_scaler"
_NOT_STORED = frozenset({_LOSS_SCALER, "param_slice_mappings", "zero_stage"})


class DeepSpeedZero:
    """See `Strategy`. `model` comes in host memory, whole, and belongs to the strategy from then on.

    torch.distributed must be initialised. At stage 3 a parameter at a time is moved to the device and sliced.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: TrainingSpec,
        *,
        ranks: Ranks,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        stage: ZeroStage = 2,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
    ) -> None:
        deepspeed = _import_deepspeed(device)
        self._ranks = ranks
        self._stage = stage
        config = _config(spec, dtype, stage, optimizer=offload_optimizer, parameters=offload_parameters)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Before slicing, after which every parameter is a vector.
        optimizer = adam_w([(parameter, parameter.dim()) for parameter in parameters], spec)
        if stage == 3:
            deepspeed.zero.Init(module=model, config_dict_or_path=config)
        self._engine: Any = deepspeed.initialize(
            model=model, optimizer=optimizer, config=config, dist_init_required=False
        )[0]
        self.policy: nn.Module = self._engine
        self._gathered: Any = deepspeed.zero.GatheredParameters

    def backward(self, loss: Tensor) -> None:
        """See `Strategy.backward`."""
        # DeepSpeed takes the mean over ranks.
        self._engine.backward(loss * self._ranks.num)

    def update(self, learning_rate: float) -> float:
        """See `Strategy.update`. DeepSpeed steps before it tells the norm: weights are lost when this raises."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if norm < 0:
            raise TrainingDivergedError("the gradient's norm is not finite: lower training.learning_rate")
        return finite_norm(norm)

    def state(self) -> dict[str, Any]:
        """See `Strategy.state`. Below stage 3 every rank has the same model, and rank 0's is stored."""
        optimizer: dict[str, Any] = self._engine.optimizer.state_dict()
        stored = {name: _plain(value) for name, value in optimizer.items() if name not in _NOT_STORED}
        model = self._engine.module.state_dict() if self._stage < 3 and self._ranks.first else {}
        return {"optimizer": stored, "model": model}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Strategy.restore`."""
        optimizer = self._engine.optimizer
        own = {**state["optimizer"], _LOSS_SCALER: optimizer.loss_scaler}
        # DeepSpeed picks this rank's entry; the others' are looked at when the number of ranks changes only.
        states = [own] * self._ranks.num
        optimizer.load_state_dict(states, load_optimizer_states=True, load_from_fp32_weights=True)
        if self._stage == 3:
            return
        if self._ranks.first:
            self._engine.module.load_state_dict(state["model"])
        with torch.no_grad():
            for parameter in self._engine.module.parameters():
                dist.broadcast(parameter.data, src=0)

    def non_finite(self) -> str | None:
        """See `Strategy.non_finite`."""
        for name, parameter in self._engine.module.named_parameters():
            own = parameter.ds_tensor if self._stage == 3 else parameter
            if not bool(torch.isfinite(own.detach()).all()):
                return name
        return None

    def whole(self, plain: Callable[[], nn.Module]) -> nn.Module | None:
        """See `Strategy.whole`. A tensor at a time is put together, and kept in rank 0's host memory."""
        tensors = dict(self._tensors())
        if not self._ranks.first:
            return None
        model = plain()
        model.load_state_dict(tensors)
        return model

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Rank 0's copies, by name, a tied tensor under each of its names; nothing on the other ranks."""
        if self._stage < 3:
            yield from self._engine.module.state_dict().items() if self._ranks.first else ()
            return
        for name, parameter in self._engine.module.named_parameters(remove_duplicate=False):
            with self._gathered([parameter], modifier_rank=None):
                if self._ranks.first:
                    yield name, parameter.detach().cpu().clone()


def _import_deepspeed(device: torch.device) -> Any:
    """Deepspeed for this kind of device, quiet, and without the operators that it would compile at the first use."""
    os.environ["DS_ACCELERATOR"] = device.type
    import deepspeed  # noqa: PLC0415  (slow; and it reads the environment above at its import)
    from deepspeed.utils import logger  # noqa: PLC0415

    logger.setLevel(logging.WARNING)
    # Its shared-memory all-reduce for CPUs is compiled when communication is set up, for minutes, behind a lock file
    # that a killed process leaves for ever. Gloo does the same.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # It calls collectives by names that torch is about to rename.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")
    # Adopts the process group that exists.
    deepspeed.init_distributed()
    return deepspeed


def _config(
    spec: TrainingSpec, dtype: torch.dtype, stage: ZeroStage, *, optimizer: bool, parameters: bool
) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage}
    if optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if parameters:
        zero["offload_param"] = {"device": "cpu"}
    return {
        # Figures of DeepSpeed's own bookkeeping. What a step is made of is the schedule's affair, micro-batch by
        # micro-batch: `managed_gradient_accumulation` off means that `step()` ends an accumulation, and nothing else.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": spec.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # torch's own AdamW, also in host memory: DeepSpeed's is compiled at its first use.
        "zero_force_ds_cpu_optimizer": False,
        # No layer is "safe", i.e. none's weights and gradients travel rounded: a tied embedding would be rounded with
        # its output head, and theta at step 0 would not be pi_t.
        "torch_autocast": {
            "enabled": dtype == torch.bfloat16,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        },
        "steps_per_print": 10**9,
    }


def _plain(value: Any) -> Any:
    """Tensors of their own instead of views and parameters, lists instead of tuples."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
