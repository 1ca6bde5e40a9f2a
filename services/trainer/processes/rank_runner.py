"""The runner of one rank: models in slices, checkpoints of every rank, the strategy that the settings name."""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from services.trainer.checkpoints.sharded import SharedWorkspace
from services.trainer.devices import dtype_of
from services.trainer.forward.log_probs import Compute
from services.trainer.optimisation.strategies import MakeStrategy, Strategy, recompute_activations
from services.trainer.optimisation.strategies.fsdp2 import Fsdp2, shard
from services.trainer.ranks import Ranks
from services.trainer.settings import TrainerSettings
from services.trainer.step_runner import StepRunner
from shared.contracts.spec import TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.models.loading import load
from shared.runtime.opening import local_folder
from shared.store.artifacts.store import ArtifactStore
from shared.store.weights.manifests import verify
from shared.store.weights.store import weights_of


def make_runner(store: ArtifactStore, settings: TrainerSettings, ranks: Ranks, device: torch.device) -> StepRunner:
    """For the rank of an initialised torch.distributed, on its device."""
    mesh = init_device_mesh(device.type, (ranks.num,))
    layout = f"{settings.trainer_strategy}"
    if settings.trainer_strategy == "deepspeed":
        layout += f", ZeRO stage {settings.trainer_zero_stage or 2}"
    layout += f", {ranks.num} processes"
    return StepRunner(
        store,
        local_folder(store, settings),
        Compute(device, dtype_of(settings), ranks),
        ShardedPolicies(store, ranks, mesh),
        make_strategy(settings, ranks, mesh, device),
        lambda folder, work: SharedWorkspace(folder, work, ranks, layout),
    )


class ShardedPolicies:
    """See `PolicySource`. Every rank reads a version into host memory; its device holds a slice, and one layer whole.

    Frozen policies are sliced by `fully_shard` whatever theta's strategy is, and nothing is kept: the process ends with
    its item.
    """

    def __init__(self, store: ArtifactStore, ranks: Ranks, mesh: DeviceMesh) -> None:
        self._store = store
        self._ranks = ranks
        self._mesh = mesh

    def frozen(self, version: WeightVersion, *, anew: bool = False) -> nn.Module:
        """See `PolicySource.frozen`."""
        del anew
        return shard(self.take(version).requires_grad_(False), self._mesh)

    def take(self, version: WeightVersion) -> nn.Module:
        """See `PolicySource.take`; whole and in host memory, for a strategy to slice."""
        if self._ranks.first:
            verify(weights_of(self._store).local(version), version)
        self._ranks.wait()
        return self.in_host_memory(version)

    def in_host_memory(self, version: WeightVersion) -> nn.Module:
        """See `PolicySource.in_host_memory`."""
        return load(weights_of(self._store).local(version), torch.float32)


def make_strategy(settings: TrainerSettings, ranks: Ranks, mesh: DeviceMesh, device: torch.device) -> MakeStrategy:
    """The strategy that the settings name, for a model in host memory."""

    def make(model: nn.Module, spec: TrainingSpec) -> Strategy:
        if settings.trainer_gradient_checkpointing:
            recompute_activations(model)
        if settings.trainer_strategy == "fsdp2":
            # On a CPU, parameters are in host memory anyway.
            offload = settings.trainer_offload_parameters and device.type != "cpu"
            return Fsdp2(model, spec, ranks=ranks, mesh=mesh, offload=offload)
        from services.trainer.optimisation.strategies.deepspeed import DeepSpeedZero  # noqa: PLC0415  (slow)

        return DeepSpeedZero(
            model,
            spec,
            ranks=ranks,
            device=device,
            dtype=dtype_of(settings),
            stage=settings.trainer_zero_stage or 2,
            offload_optimizer=settings.trainer_offload_optimizer,
            offload_parameters=settings.trainer_offload_parameters,
        )

    return make
