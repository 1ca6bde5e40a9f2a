"""A swap into the in-process engine: exact when it succeeds, as if it had never been tried when it is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services.policy.engine import GenerationRequest, Sampling, SwapRefusedError
from services.policy.engines.transformers.engine import TransformersEngine
from services.policy.settings import PolicySettings
from services.policy.swapping.gate import Gate
from shared.contracts.weights import Canary, WeightVersion
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights import manifests
from tests.support import broken_weights, tiny_models
from tests.support.broken_weights import broken_version, edited
from tests.support.tiny_models import BOS

SEQUENCES = [[BOS, 11, 22, 33, 44, 55], [BOS, 200, 100], [9, 8, 7, 6, 5, 4, 3]]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def engine() -> TransformersEngine:
    return TransformersEngine(PolicySettings(device="cpu", num_threads=1))


def swap(engine: TransformersEngine, store: DirectoryStore, version: WeightVersion) -> None:
    engine.swap_weights(store.path(version.directory), version)


def assert_serves(engine: TransformersEngine, model: Path, version: WeightVersion) -> None:
    """The engine's scores equal a direct forward of the model within 1e-4."""
    assert engine.live_version() == version
    for score, expected in zip(engine.score(SEQUENCES), tiny_models.direct_log_probs(model, SEQUENCES), strict=True):
        assert score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_after_a_swap_the_engine_computes_the_new_log_probs(
    engine: TransformersEngine, store: DirectoryStore, tmp_path: Path, tied: bool
) -> None:
    """Forth, back and forth again; old and new differ by far more than the tolerance of 1e-4."""
    old_model = tiny_models.make_model(tmp_path / "old", seed=1, tied=tied)
    new_model = tiny_models.perturb(old_model, tmp_path / "new", seed=2)
    old = tiny_models.publish(store, "run", 0, old_model)
    new = tiny_models.publish(store, "run", 1, new_model, parent=old)
    for model, version in [(old_model, old), (new_model, new), (old_model, old), (new_model, new)]:
        swap(engine, store, version)
        assert_serves(engine, model, version)
    far = tiny_models.direct_log_probs(old_model, SEQUENCES)[0][0] - engine.score(SEQUENCES)[0][0]
    assert abs(far) > 1e-2


def test_a_model_of_another_architecture_is_loaded_whole(
    engine: TransformersEngine, store: DirectoryStore, tmp_path: Path
) -> None:
    for run, model in [
        ("small", tiny_models.make_model(tmp_path / "small", seed=1)),
        ("wide", tiny_models.make_model(tmp_path / "wide", seed=1, hidden_size=48, tied=False)),
    ]:
        version = tiny_models.publish(store, run, 0, model)
        swap(engine, store, version)
        assert_serves(engine, model, version)


def test_a_swapped_engine_generates_with_the_new_weights(
    engine: TransformersEngine, store: DirectoryStore, tmp_path: Path
) -> None:
    """Generating after old -> new equals generating by an engine that never saw the old weights."""
    old_model = tiny_models.make_model(tmp_path / "old", seed=1)
    new_model = tiny_models.perturb(old_model, tmp_path / "new", seed=2, scale=0.1)
    old = tiny_models.publish(store, "run", 0, old_model)
    new = tiny_models.publish(store, "run", 1, new_model, parent=old)
    request = GenerationRequest([BOS, 5, 6], [1, 2, 3])
    swap(engine, store, old)
    before = engine.generate([request], Sampling(16))
    swap(engine, store, new)
    fresh = TransformersEngine(PolicySettings(device="cpu", num_threads=1))
    swap(fresh, store, new)
    assert engine.generate([request], Sampling(16)) == fresh.generate([request], Sampling(16)) != before


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated file": (broken_weights.truncated, "truncated"),
    "missing tensor": (edited(broken_weights.drop_tensor), "up_proj"),
    "missing head": (edited(broken_weights.drop_head), "lm_head"),
    "extra tensor": (edited(broken_weights.add_tensor), "extra"),
    "NaN weight": (edited(broken_weights.poison), "q_proj.weight holds NaN"),
    "infinite weight outside the canary": (edited(broken_weights.poison_unused_row), "embed_tokens.weight holds NaN"),
    "other shape": (edited(broken_weights.reshape), "up_proj"),
    "other weights than the canary's": (edited(broken_weights.nudge), "computes another model"),
    "no weights file": (broken_weights.without_file("model.safetensors"), "no safetensors"),
    "no canary": (broken_weights.without_file("canary.json"), "canary.json"),
    "no config": (broken_weights.without_file("config.json"), "config"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_weights_are_refused_and_the_old_version_serves_on_bit_identically(
    engine: TransformersEngine, store: DirectoryStore, tmp_path: Path, fault: str
) -> None:
    """The manifest is written over the faulty files, as if the trainer had published them: digests do not help here."""
    old_model = tiny_models.make_model(tmp_path / "old", seed=1, tied=False)
    old = tiny_models.publish(store, "run", 0, old_model)
    swap(engine, store, old)
    before = engine.score(SEQUENCES)
    bad = broken_version(store, old, tiny_models.perturb(old_model, tmp_path / "new", seed=2), FAULTS[fault][0])
    with pytest.raises(SwapRefusedError, match=FAULTS[fault][1]):
        swap(engine, store, bad)
    assert engine.score(SEQUENCES) == before
    assert_serves(engine, old_model, old)


def test_a_file_that_changed_after_publishing_is_refused(
    engine: TransformersEngine, store: DirectoryStore, tmp_path: Path
) -> None:
    """One flipped bit in the last weight: same length, another digest."""
    model = tiny_models.make_model(tmp_path / "model", seed=1)
    old = tiny_models.publish(store, "run", 0, model)
    new = tiny_models.publish(store, "run", 1, tiny_models.perturb(model, tmp_path / "new", seed=2), parent=old)
    swap(engine, store, old)
    file = store.path(new.directory) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(SwapRefusedError, match="sha256"):
        swap(engine, store, new)
    assert_serves(engine, model, old)


def test_a_directory_of_another_version_is_refused(
    engine: TransformersEngine, store: DirectoryStore, tmp_path: Path
) -> None:
    model = tiny_models.make_model(tmp_path / "model", seed=1)
    old = tiny_models.publish(store, "run", 0, model)
    foreign = old.model_copy(update={"digest": "0" * 64})
    with pytest.raises(SwapRefusedError, match="is not run/v0@000000000000"):
        swap(engine, store, foreign)
    assert engine.live_version() is None


def test_old_weights_under_a_new_canary_are_refused(
    engine: TransformersEngine, store: DirectoryStore, tmp_path: Path
) -> None:
    """A stale copy of the old weights, published with the new ones' canary: what a half-done swap looks like."""
    old_model = tiny_models.make_model(tmp_path / "old", seed=1)
    old = tiny_models.publish(store, "run", 0, old_model)
    swap(engine, store, old)

    def stale(path: Path) -> None:
        shutil.copy(old_model / "model.safetensors", path / "model.safetensors")

    bad = broken_version(store, old, tiny_models.perturb(old_model, tmp_path / "new", seed=2), stale)
    with pytest.raises(SwapRefusedError, match="still computes the old log-probs"):
        swap(engine, store, bad)
    assert_serves(engine, old_model, old)


def test_a_wide_tolerance_does_not_let_the_old_weights_pass(store: DirectoryStore, tmp_path: Path) -> None:
    """Tolerance 0.5 nats; old and new differ by more; the engine's log-probs lie within 0.5 of both, nearer to the old.

    The canary is built around the served weights: new = served + 0.4, old = served - 0.2, so a third of the step is
    made.
    """
    engine = TransformersEngine(PolicySettings(device="cpu", num_threads=1, canary_tolerance=0.5))
    model = tiny_models.make_model(tmp_path / "model", seed=1)

    def shift_canary(path: Path) -> None:
        canary = manifests.read_canary(path)
        shifted = Canary(
            sequences=canary.sequences,
            log_probs=[[value + 0.4 for value in row] for row in canary.log_probs],
            parent_log_probs=[[value - 0.2 for value in row] for row in canary.log_probs],
        )
        (path / manifests.CANARY).write_text(shifted.model_dump_json())

    old = tiny_models.publish(store, "run", 0, model)
    with pytest.raises(SwapRefusedError, match=r"neither the old weights nor the new: it has made 0\.333"):
        swap(engine, store, broken_version(store, old, model, shift_canary))


def test_the_gate_goes_on_with_the_last_good_version_after_a_refusal(
    engine: TransformersEngine, store: DirectoryStore, tmp_path: Path
) -> None:
    old_model = tiny_models.make_model(tmp_path / "old", seed=1, tied=False)
    old = tiny_models.publish(store, "run", 0, old_model)
    bad = broken_version(
        store, old, tiny_models.perturb(old_model, tmp_path / "new", seed=2), edited(broken_weights.drop_tensor)
    )
    gate = Gate(engine, lambda version: store.path(version.directory))
    gate.ensure(old)
    for _ in range(2):
        with pytest.raises(SwapRefusedError), gate.serving(bad):
            raise AssertionError("refused weights were handed out")
    with gate.serving(old) as serving:
        assert serving.generate([GenerationRequest([BOS], [1])], Sampling(4))[0][0].token_ids
