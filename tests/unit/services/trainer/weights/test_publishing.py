# torch's stubs and safetensors' functions leave a few results partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Publishing: an ordinary Hugging Face directory, whole and proven, or nothing."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from services.trainer.errors import NotFiniteError
from services.trainer.forward.sequences import Sequences
from services.trainer.weights.canary_recording import CanaryStart, canary_start
from services.trainer.weights.importing import import_model
from services.trainer.weights.models import Policies
from services.trainer.weights.publishing import announce, publish
from shared.contracts.records import PublishedWeights
from shared.contracts.spec import ModelSpec
from shared.contracts.weights import WeightVersion
from shared.models.loading import load
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights import manifests
from tests.support import tiny_models

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def base_of(store: DirectoryStore, directory: Path) -> WeightVersion:
    return import_model(store, "run", ModelSpec(path=str(directory)), CPU)


def trained(store: DirectoryStore, version: WeightVersion) -> torch.nn.Module:
    """The version with a little noise on every weight."""
    model = Policies(store, CPU).take(version)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return model


def start_of(store: DirectoryStore, version: WeightVersion) -> CanaryStart:
    """The canary of two pairs, before a step from this version."""
    sequences = Sequences([([1, 5, 9], [33, 2]), ([1, 7], [8]), ([1, 5, 9], [33]), ([1, 7], [40, 41, 42])])
    return canary_start(Policies(store, CPU).frozen(version), sequences, CPU)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_published_weights_are_an_ordinary_directory_that_passes_verification(
    store: DirectoryStore, tmp_path: Path, tied: bool
) -> None:
    base = base_of(store, tiny_models.make_model(tmp_path / "model", seed=1, tied=tied))
    version = publish(store, "run", 1, trained(store, base), base, start_of(store, base))
    directory = store.path(version.directory)
    manifest = manifests.verify(directory, version)
    assert (manifest.number, manifest.parent, manifest.finite) == (1, base.digest, True)
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o644}
    model = AutoModelForCausalLM.from_pretrained(str(directory))
    assert manifest.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    assert tokenizer.chat_template == tiny_models.CHAT_TEMPLATE
    manifests.check_headers(manifests.tensor_headers(directory), manifests.tensor_headers(store.path(base.directory)))
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        assert (directory / name).read_bytes() == (store.path(base.directory) / name).read_bytes()


def test_the_canary_tells_new_weights_from_the_parents(store: DirectoryStore, tmp_path: Path) -> None:
    """Its values are those of plain forwards of both directories, on the responses that were trained on."""
    base = base_of(store, tiny_models.make_model(tmp_path / "model", seed=1))
    version = publish(store, "run", 1, trained(store, base), base, start_of(store, base))
    canary = manifests.read_canary(store.path(version.directory))
    assert canary.sequences == [[1, 5, 9, 33, 2], [1, 5, 9, 33], [1, 7, 8], [1, 7, 40, 41, 42]]
    assert canary.starts == [3, 3, 2, 2]
    for directory, found in [(version.directory, canary.log_probs), (base.directory, canary.parent_log_probs)]:
        for row, expected in zip(
            found, tiny_models.direct_log_probs(store.path(directory), canary.sequences), strict=True
        ):
            assert row == pytest.approx(expected[-len(row) :], abs=1e-4)
    assert [len(row) for row in canary.log_probs] == canary.num_compared() == [2, 1, 1, 3]
    assert canary.log_probs != canary.parent_log_probs


def test_the_dtype_of_the_base_is_kept_and_the_live_model_is_rounded_to_it(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """A bfloat16 model is trained in float32; after publishing the live weights are the stored ones exactly."""
    source = tiny_models.make_model(tmp_path / "model", seed=1)
    AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.bfloat16).save_pretrained(source)
    base = base_of(store, source)
    model = trained(store, base)
    version = publish(store, "run", 1, model, base, start_of(store, base))
    stored = load_file(store.path(version.directory) / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    state = model.state_dict()
    assert all(torch.equal(tensor.float(), state[name]) for name, tensor in stored.items())
    reloaded = load(store.path(version.directory), torch.float32)
    ids = torch.tensor([[1, 5, 9, 33]])
    assert torch.equal(model(input_ids=ids).logits, reloaded(input_ids=ids).logits)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_before_anything_is_written(
    store: DirectoryStore, tmp_path: Path, value: float
) -> None:
    base = base_of(store, tiny_models.make_model(tmp_path / "model", seed=1))
    model = trained(store, base)
    with torch.no_grad():
        dict(model.named_parameters())["model.norm.weight"][3] = value
    with pytest.raises(NotFiniteError, match=r"model\.norm\.weight"):
        publish(store, "run", 1, model, base, start_of(store, base))
    assert store.list("runs/run/weights") == ["0000-1"]


def test_the_loser_of_a_race_deletes_its_own_weights_and_adopts_the_winners(
    store: DirectoryStore, tmp_path: Path
) -> None:
    base = base_of(store, tiny_models.make_model(tmp_path / "model", seed=1))
    start = start_of(store, base)
    winner, loser = (publish(store, "run", 1, trained(store, base), base, start) for _ in range(2))
    assert winner.directory != loser.directory
    step = "runs/run/iterations/0001/half-1"
    first = announce(store, step, PublishedWeights(version=winner, metrics={"loss": 1.0}))
    second = announce(store, step, PublishedWeights(version=loser, metrics={"loss": 2.0}))
    assert first.version == second.version == winner
    assert first.metrics == second.metrics == {"loss": 1.0}
    assert not store.path(loser.directory).exists()
    manifests.verify(store.path(winner.directory), winner)


def refusing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The disk is full when the tensors are written."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", refuse)


@pytest.mark.parametrize(
    "error",
    [SafetensorError("I/O error: No space left on device (os error 28)"), OSError(28, "full"), KeyboardInterrupt()],
)
def test_a_candidate_that_is_refused_half_way_leaves_nothing(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    base = base_of(store, tiny_models.make_model(tmp_path / "model", seed=1))
    model, start = trained(store, base), start_of(store, base)
    refusing(monkeypatch, error)
    with pytest.raises(type(error)):
        publish(store, "run", 1, model, base, start)
    assert store.list("runs/run/weights") == ["0000-1"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_record_that_cannot_be_written_takes_its_candidate_along_unless_it_was_written_all_the_same(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync of its folder may fail after the record was linked: then it is there, and names the candidate."""
    base = base_of(store, tiny_models.make_model(tmp_path / "model", seed=1))
    start, model, create = start_of(store, base), trained(store, base), store.create
    step = "runs/run/iterations/0001/half-1"

    def refuse(key: str, data: bytes) -> bool:
        if written:
            create(key, data)
        raise OSError(28, "No space left on device")

    for written in (False, True):
        version = publish(store, "run", 1, model, base, start)
        with monkeypatch.context() as patch:
            patch.setattr(store, "create", refuse)
            with pytest.raises(OSError, match="No space left"):
                announce(store, step, PublishedWeights(version=version))
        assert store.path(version.directory).exists() is written
    assert announce(store, step, PublishedWeights(version=version)).version == version


def test_a_candidate_that_was_removed_is_not_announced(store: DirectoryStore, tmp_path: Path) -> None:
    base = base_of(store, tiny_models.make_model(tmp_path / "model", seed=1))
    version = publish(store, "run", 1, trained(store, base), base, start_of(store, base))
    shutil.rmtree(store.path(version.directory))
    with pytest.raises(manifests.WeightsError, match="was removed before it was published"):
        announce(store, "runs/run/iterations/0001/half-1", PublishedWeights(version=version))
    assert not store.exists("runs/run/iterations/0001/half-1/weights.json")
