"""The run's model as weight version 0."""

import json
from pathlib import Path

import pytest
import torch

from services.trainer.errors import ModelImportError
from services.trainer.weights.importing import import_model
from shared.contracts.spec import ModelSpec
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights import manifests
from tests.support import tiny_models

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_an_imported_model_computes_what_the_original_does(store: DirectoryStore, tmp_path: Path) -> None:
    """And its canary's old and new log-probs are the same: nothing came before it."""
    source = tiny_models.make_model(tmp_path / "model", seed=1)
    version = import_model(store, "run", ModelSpec(path=str(source)), CPU)
    directory = store.path(version.directory)
    assert manifests.verify(directory, version).parent is None
    sequences = tiny_models.CANARY_SEQUENCES
    assert tiny_models.direct_log_probs(directory, sequences) == tiny_models.direct_log_probs(source, sequences)
    canary = manifests.read_canary(directory)
    assert canary.log_probs == canary.parent_log_probs


def test_a_generation_config_that_transformers_would_not_write_is_copied_as_it_is(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """Sampling parameters without do_sample, as several models are shipped."""
    source = tiny_models.make_model(tmp_path / "model", seed=1)
    shipped = json.dumps({"temperature": 0.6, "top_p": 0.9, "do_sample": False, "eos_token_id": [2, 7]})
    (source / "generation_config.json").write_text(shipped)
    version = import_model(store, "run", ModelSpec(path=str(source)), CPU)
    assert (store.path(version.directory) / "generation_config.json").read_text() == shipped


def test_equal_models_become_equal_versions(store: DirectoryStore, tmp_path: Path) -> None:
    source = tiny_models.make_model(tmp_path / "model", seed=1)
    first, second = (import_model(store, run, ModelSpec(path=str(source)), CPU) for run in ("run", "other"))
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("path", "message"),
    [("/no/such/model", "neither a directory"), ("../up", "neither a directory"), ("a/b/c", "neither a directory")],
)
def test_a_missing_model_is_named(store: DirectoryStore, path: str, message: str) -> None:
    with pytest.raises(ModelImportError, match=f"model.path: '{path}' is {message}"):
        import_model(store, "run", ModelSpec(path=path), CPU)


def test_a_directory_that_is_no_model_is_named(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelImportError, match=r"model\.path: .*empty has no config\.json"):
        import_model(store, "run", ModelSpec(path=str(tmp_path / "empty")), CPU)


def test_a_broken_model_is_refused_and_nothing_is_published(store: DirectoryStore, tmp_path: Path) -> None:
    source = tiny_models.make_model(tmp_path / "model", seed=1)
    (source / "model.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(ModelImportError, match=r"model\.path: .*cannot be loaded"):
        import_model(store, "run", ModelSpec(path=str(source)), CPU)
    assert store.list("runs/run/weights") == []
