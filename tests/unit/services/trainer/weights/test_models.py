# torch's stubs and safetensors' functions leave a few results partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Weight versions as live models: kept when they are still what the store holds, refused when that is broken."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.trainer.weights.models import Policies
from shared.contracts.weights import WeightVersion
from shared.models.loading import load
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights.manifests import WeightsError
from tests.support import tiny_models

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def versions(store: DirectoryStore, tmp_path: Path) -> tuple[WeightVersion, WeightVersion]:
    base = tiny_models.make_model(tmp_path / "base", seed=1)
    first = tiny_models.publish(store, "run", 0, base)
    trained = tiny_models.perturb(base, tmp_path / "trained", seed=2)
    return first, tiny_models.publish(store, "run", 1, trained, parent=first)


def nudge(model: torch.nn.Module) -> None:
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[0] += 1e-6


def test_the_reference_policy_is_loaded_once(
    store: DirectoryStore, versions: tuple[WeightVersion, WeightVersion]
) -> None:
    policies = Policies(store, CPU)
    reference = policies.frozen(versions[0])
    assert policies.frozen(versions[0]) is reference
    assert not any(parameter.requires_grad for parameter in reference.parameters())


def test_training_the_reference_leaves_the_frozen_one_alone(
    store: DirectoryStore, versions: tuple[WeightVersion, WeightVersion]
) -> None:
    policies = Policies(store, CPU)
    trained = policies.take(versions[0])
    nudge(trained)
    frozen = policies.frozen(versions[0])
    assert frozen is not trained
    assert not torch.equal(next(iter(frozen.parameters())), next(iter(trained.parameters())))
    assert all(parameter.requires_grad for parameter in trained.parameters())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_a_kept_model_is_the_next_iterations_start(
    store: DirectoryStore, versions: tuple[WeightVersion, WeightVersion]
) -> None:
    policies = Policies(store, CPU)
    model = policies.take(versions[1])
    policies.keep(versions[1], model)
    assert policies.frozen(versions[1]) is model
    assert policies.take(versions[1]) is model
    assert policies.frozen(versions[1]) is not model  # it was the caller's to change


def test_a_kept_model_that_drifted_by_one_weight_is_loaded_again(
    store: DirectoryStore, versions: tuple[WeightVersion, WeightVersion]
) -> None:
    policies = Policies(store, CPU)
    model = policies.take(versions[1])
    policies.keep(versions[1], model)
    nudge(model)
    assert policies.frozen(versions[1]) is not model


def test_a_file_with_one_weight_changed_is_refused(
    store: DirectoryStore, versions: tuple[WeightVersion, WeightVersion]
) -> None:
    """Even while the same version is in memory."""
    policies = Policies(store, CPU)
    policies.keep(versions[1], policies.take(versions[1]))
    file = store.path(versions[1].directory) / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][0] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="another sha256"):
        policies.take(versions[1])


@pytest.mark.parametrize("problem", ["missing", "unexpected", "shape", "nan", "truncated", "config"])
def test_a_broken_directory_is_refused_by_name(tmp_path: Path, problem: str) -> None:
    directory = tiny_models.make_model(tmp_path / "model", seed=1)
    file = directory / "model.safetensors"
    tensors = load_file(file)
    message = "model.norm.weight"
    if problem == "missing":
        del tensors["model.norm.weight"]
    elif problem == "unexpected":
        tensors["odd.weight"] = torch.ones(2)
        message = "odd.weight"
    elif problem == "shape":
        tensors["model.norm.weight"] = torch.ones(5)
    elif problem == "nan":
        tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    if problem == "truncated":
        file.write_bytes(file.read_bytes()[:-10])
        message = "cannot be loaded"
    if problem == "config":
        (directory / "config.json").write_text("{")
        message = "cannot be loaded"
    with pytest.raises(WeightsError, match=message):
        load(directory, torch.float32)
