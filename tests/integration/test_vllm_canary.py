# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""The canary against a real vLLM server in bfloat16, whose rounding of a token is larger than a step."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from services.cli.launcher.vllm import VllmOptions
from services.policy.engine import EngineError, SwapRefusedError
from services.policy.engines.vllm.engine import VllmEngine
from services.policy.swapping.canary import CanaryCheck
from services.trainer.forward.sequences import Sequences
from services.trainer.weights.canary_recording import canary_start
from services.trainer.weights.importing import import_model
from services.trainer.weights.models import Policies
from services.trainer.weights.publishing import publish
from shared.contracts.spec import ModelSpec
from shared.contracts.weights import Canary, WeightVersion
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights.manifests import read_canary
from tests.support import broken_weights, tiny_models
from tests.support.broken_weights import broken_version, edited
from tests.support.vllm_server import supervised_vllm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("vllm_bfloat16")]

CPU = torch.device("cpu")
NUM_PAIRS = 40
RESPONSE_LENGTH = 40
# What AdamW moves a weight by at most: the paper's learning rate, once and a hundred times, and a bold step.
STEPS = {"one step": 5e-7, "a hundred steps": 5e-5, "a bold step": 5e-3}


@dataclass(frozen=True)
class Served:
    """An engine over a server in bfloat16 that was started on `model`, which is version 0 of the store."""

    engine: VllmEngine
    store: DirectoryStore
    model: Path
    base: WeightVersion

    def swap(self, version: WeightVersion) -> None:
        self.engine.swap_weights(self.store.path(version.directory), version)

    def trained(self, number: int, size: float) -> WeightVersion:
        """Every weight moved by `size`, up or down, and published as the trainer does."""
        model = Policies(self.store, CPU).take(self.base)
        start = canary_start(model, pairs(), CPU)
        draws = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draws).sign(), alpha=size)
        return publish(self.store, "run", number, model, self.base, start)

    def canary(self, version: WeightVersion) -> Canary:
        return read_canary(self.store.path(version.directory))


def pairs() -> Sequences:
    draws = np.random.default_rng(3)
    rows = draws.integers(3, 250, size=(2 * NUM_PAIRS, RESPONSE_LENGTH))
    return Sequences([([1, 5], [int(token) for token in row]) for row in rows])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    path = tmp_path_factory.mktemp("bfloat16")
    model = tiny_models.make_model(path / "model", seed=1, tied=True, hidden_size=128)
    store = DirectoryStore(path / "store")
    base = import_model(store, "run", ModelSpec(path=str(model)), CPU)
    options = VllmOptions(model, dtype="bfloat16")
    with supervised_vllm(model, path / "state", options) as (settings, _), closing(VllmEngine(settings)) as engine:
        found = Served(engine, store, model, base)
        try:
            found.swap(base)
        except EngineError as error:
            if "died of a first small batch" not in str(error):
                raise
            pytest.skip(f"vLLM cannot serve a model this small in bfloat16 on this processor: {error}")
        yield found


def test_the_reference_policy_and_its_steps_serve_with_default_settings(served: Served) -> None:
    assert served.engine.precision() == "bfloat16"
    for number, size in enumerate(STEPS.values(), start=1):
        version = served.trained(number, size)
        served.swap(version)
        assert served.engine.live_version() == version


@pytest.mark.parametrize("step", STEPS)
def test_old_weights_never_pass_for_new_ones(served: Served, step: str) -> None:
    """1,000 trials: the server's own answers under the old weights, to sequences drawn with replacement."""
    served.swap(served.base)
    base, canary = served.canary(served.base), served.canary(served.trained(7, STEPS[step]))
    base_answers, answers = served.engine.score(base.sequences), served.engine.score(canary.sequences)
    draws = np.random.default_rng(1)

    def passes() -> bool:
        rows = draws.integers(0, len(answers), size=len(answers))
        check = CanaryCheck("bfloat16")
        check.check(base, in_turn(base_answers))
        try:
            verdict = check.check(resampled(canary, rows), in_turn([answers[row] for row in rows]))
            return verdict.outcome == "new"
        except SwapRefusedError:
            return False

    assert sum(passes() for _ in range(1000)) == 0


def resampled(canary: Canary, rows: NDArray[np.int64]) -> Canary:
    fields = {name: [values[row] for row in rows] for name, values in canary}
    return canary.model_copy(update=fields)


def in_turn(answers: list[list[float]]) -> Callable[[Sequence[Sequence[int]]], list[list[float]]]:
    """Answers in the order in which they are asked for, chunk by chunk."""
    left = iter(answers)
    return lambda sequences: [next(left) for _ in sequences]


FAULTS = {
    "missing tensor": (edited(broken_weights.drop_tensor), "up_proj"),
    "NaN weight": (edited(broken_weights.poison), "NaN"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_weights_are_refused_and_the_old_version_serves_on(served: Served, tmp_path: Path, fault: str) -> None:
    served.swap(served.base)
    before = served.engine.score([[1, 5, 9, 33]])
    break_it, message = FAULTS[fault]
    new = tiny_models.perturb(served.model, tmp_path / "new", seed=2)
    bad = broken_version(served.store, served.base, new, break_it)
    with pytest.raises(SwapRefusedError, match=message):
        served.swap(bad)
    assert served.engine.live_version() == served.base
    assert served.engine.score([[1, 5, 9, 33]]) == before
