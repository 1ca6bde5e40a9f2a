# transformers' auto classes are untyped; what leaves this module is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Weight versions as live models. The current and the reference policy stay in memory from one item to the next."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import nn

from shared.contracts.weights import WeightVersion
from shared.models.loading import load
from shared.store.artifacts.store import ArtifactStore
from shared.store.weights.manifests import verify
from shared.store.weights.store import weights_of


@dataclass(frozen=True, slots=True)
class _Kept:
    digest: str
    model: nn.Module


class PolicySource(Protocol):
    """Where an iteration gets its models from; `WeightsError` for a version that must not be used."""

    def frozen(self, version: WeightVersion, *, anew: bool = False) -> nn.Module:
        """The version to look at; the caller must not change it. `anew`: from the store, not the one last trained."""
        ...

    def take(self, version: WeightVersion) -> nn.Module:
        """The version to train: the caller's alone."""
        ...

    def in_host_memory(self, version: WeightVersion) -> nn.Module:
        """A copy of the version in one piece."""
        ...


class Policies:
    """Models by weight version: fp32, in eval mode (no dropout), complete, and bit for bit what the store holds.

    Keeps the reference policy (number 0) and the version that was trained last; others are loaded and forgotten.
    """

    def __init__(self, store: ArtifactStore, device: torch.device) -> None:
        self._weights = weights_of(store)
        self._device = device
        self._reference: _Kept | None = None
        self._current: _Kept | None = None

    def frozen(self, version: WeightVersion, *, anew: bool = False) -> nn.Module:
        """See `PolicySource.frozen`."""
        directory = self._weights.local(version)
        verify(directory, version)
        kept = self._reference if version.number == 0 else None if anew else self._current
        if kept is not None and kept.digest == version.digest and _same_tensors(kept.model, directory):
            return kept.model
        model = load(directory, torch.float32).to(self._device).requires_grad_(False)
        if version.number == 0:
            self._reference = _Kept(version.digest, model)
        return model

    def take(self, version: WeightVersion) -> nn.Module:
        """See `PolicySource.take`."""
        model = self.frozen(version)
        if version.number == 0:
            model = copy.deepcopy(model)
        self._current = None
        return model.requires_grad_(True)

    def in_host_memory(self, version: WeightVersion) -> nn.Module:
        """See `PolicySource.in_host_memory`."""
        return load(self._weights.local(version), torch.float32)

    def keep(self, version: WeightVersion, model: nn.Module) -> None:
        """A model that was trained and published is this version now, and spares the next iteration a load."""
        for parameter in model.parameters():
            parameter.grad = None
        self._current = _Kept(version.digest, model.requires_grad_(False))


def _same_tensors(model: nn.Module, directory: Path) -> bool:
    """Whether the live model still is what the files say. A name that cannot be matched counts as different."""
    state: dict[str, torch.Tensor] = model.state_dict()
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a mapping)
                live = state.get(name)
                if live is None or not torch.equal(tensors.get_tensor(name).to(live.device, live.dtype), live):
                    return False
    return True
