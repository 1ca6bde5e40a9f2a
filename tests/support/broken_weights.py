# safetensors' functions are partially typed.
# pyright: reportUnknownVariableType=false
"""Published weight versions that are wrong in one way each. Their manifests are right: digests do not help."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from shared.contracts.weights import WeightVersion
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights import manifests
from shared.store.weights.store import weights_of
from tests.support import tiny_models

Tensors = dict[str, torch.Tensor]


def broken_version(
    store: DirectoryStore, parent: WeightVersion, model: Path, break_it: Callable[[Path], None]
) -> WeightVersion:
    """A version of the model with `break_it` done to its directory, published as if the trainer had made it."""
    good = tiny_models.publish(store, "run", 1, model, parent=parent)
    candidate = weights_of(store).begin("run", 1)
    shutil.copytree(store.path(good.directory), candidate.path, dirs_exist_ok=True)
    (candidate.path / manifests.MANIFEST).unlink()
    break_it(candidate.path)
    return tiny_models.finish(store, candidate, parent)


def truncated(path: Path) -> None:
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[: len(data) // 2])


def edited(change: Callable[[Tensors], None]) -> Callable[[Path], None]:
    """Rewrites the weights file after a change to its tensors."""

    def edit(path: Path) -> None:
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

    return edit


def drop_tensor(tensors: Tensors) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def drop_head(tensors: Tensors) -> None:
    tensors.pop("lm_head.weight")


def add_tensor(tensors: Tensors) -> None:
    tensors["model.layers.1.mlp.extra.weight"] = torch.zeros(3)


def poison(tensors: Tensors) -> None:
    tensors["model.layers.0.self_attn.q_proj.weight"][3, 4] = math.nan


def poison_unused_row(tensors: Tensors) -> None:
    """An embedding that no canary sequence touches."""
    tensors["model.embed_tokens.weight"][240] = math.inf


def reshape(tensors: Tensors) -> None:
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(16, 32)


def nudge(tensors: Tensors) -> None:
    """Complete and finite, but not what the trainer scored."""
    tensors["model.norm.weight"] *= 1.1


def without_file(name: str) -> Callable[[Path], None]:
    def remove(path: Path) -> None:
        (path / name).unlink()

    return remove
