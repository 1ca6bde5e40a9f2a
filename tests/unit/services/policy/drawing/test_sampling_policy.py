"""Sampling policies over engines whose policies are known: who draws what, and how exactly."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.policy.drawing.sampling_policy import Drawing, Drawn, RenderedPrompt, effective_sample_size, importance
from services.policy.engine import Completion, EngineError
from services.policy.swapping.gate import Gate
from shared.contracts.plans import GeometricMixtureWeights, HalfStepPlan, UniformMixtureWeights
from shared.contracts.records import Skipped
from shared.contracts.spec import SamplingSpec
from shared.contracts.weights import WeightVersion
from tests.support.fake_engine import FakeEngine
from tests.support.judged_steps import a_half_step, a_version
from tests.support.three_answers import FIRST_ANSWER, ThreeAnswers

PROMPTS = [RenderedPrompt(f"p{number}", [1, number]) for number in range(50)]
PI, REF = (0.6, 0.3, 0.1), (0.1, 0.3, 0.6)


def drawn(engine: FakeEngine, plan: HalfStepPlan, prompts: list[RenderedPrompt] = PROMPTS) -> list[Drawn]:
    found = drawing(engine, plan).draw(prompts)
    assert all(isinstance(one, Drawn) for one in found)
    return [one for one in found if isinstance(one, Drawn)]


def drawing(engine: FakeEngine, plan: HalfStepPlan) -> Drawing:
    return Drawing(Gate(engine, lambda _: Path("nowhere")), lambda _: Path("nowhere"), plan, "half-1")


def a_plan(**changes: Any) -> HalfStepPlan:
    return a_half_step(num_responses=4).model_copy(update=changes)


def over(*numbers: int) -> HalfStepPlan:
    versions = [a_version(number) for number in numbers]
    return a_plan(sample_from=versions[0], mixture=UniformMixtureWeights(versions=versions))


def geometric(exponent: float, **how: Any) -> HalfStepPlan:
    """ref^m pi^(1 - m) by resampling; pi is version 1, ref version 0."""
    sampling = SamplingSpec.model_validate(
        {"num_responses": 4, "max_new_tokens": 8, "geometric": {"method": "sequence"} | how}
    )
    mixture = GeometricMixtureWeights(reference_exponent=exponent)
    return a_plan(sample_from=a_version(1), reference=a_version(0), mixture=mixture, sampling=sampling)


def shares(found: list[Drawn]) -> list[float]:
    counts = Counter(completion.token_ids[0] for one in found for completion in one.completions)
    return [counts[FIRST_ANSWER + answer] / counts.total() for answer in range(3)]


def test_a_mixture_draws_the_version_of_each_response_uniformly() -> None:
    """200 responses over 4 versions: 50 each, give or take 3.3 standard deviations of sqrt(200/4 * 3/4) = 6.1."""
    found = drawn(FakeEngine(), over(3, 2, 1, 0))
    numbers = Counter(version.number for one in found for version in one.versions)
    assert set(numbers) == {0, 1, 2, 3}
    assert all(abs(count - 50) <= 20 for count in numbers.values())
    assert len({tuple(version.number for version in one.versions) for one in found}) > 10


def test_a_shard_swaps_every_version_in_once_beginning_with_the_live_one() -> None:
    engine = FakeEngine()
    engine.live = a_version(2)
    drawn(engine, over(3, 2, 1))
    assert sorted(version.number for version in engine.swaps) == [1, 3]


def test_a_response_of_a_mixture_is_what_its_version_gives_alone() -> None:
    """So the mixture changes who answers, never an answer, and not with the order of the versions."""
    alone = {n: drawn(FakeEngine(), a_plan(sample_from=a_version(n))) for n in (1, 2)}
    found = drawn(FakeEngine(), over(2, 1))
    for row, one in enumerate(found):
        for sample, version in enumerate(one.versions):
            assert one.completions[sample] == alone[version.number][row].completions[sample]


def test_resampling_approaches_the_geometric_mixture() -> None:
    """sqrt(pi ref) = (.245, .3, .245), normalised (.310, .380, .310); pi itself would give (.6, .3, .1).

    200 responses resampled from 256 proposals: three standard deviations of a share are .10.
    """
    engine = ThreeAnswers({1: PI, 0: REF})
    found = drawn(engine, geometric(0.5, num_proposals=256))
    root = [math.sqrt(a * b) for a, b in zip(PI, REF, strict=True)]
    assert shares(found) == pytest.approx([value / sum(root) for value in root], abs=0.10)
    assert [version.number for version in engine.swaps] == [1, 0]
    assert {version.number for one in found for version in one.versions} == {1}


def test_what_is_stored_are_the_log_probs_of_the_policy_not_of_the_mixture() -> None:
    for one in drawn(ThreeAnswers({1: PI, 0: REF}), geometric(0.5)):
        for completion in one.completions:
            assert completion.log_probs == [math.log(PI[completion.token_ids[0] - FIRST_ANSWER])]


def test_importance_weights_are_the_ratio_to_the_power_of_the_exponent() -> None:
    """(ref/pi)^m at m = 1/2: sqrt(1/6), 1, sqrt(6); scaled to a largest weight of 1."""
    proposals = [Completion([answer], [math.log(PI[answer])], "stop") for answer in range(3)]
    weights = importance(proposals, [math.log(value) for value in REF], 0.5)
    assert weights == pytest.approx([1 / 6, math.sqrt(1 / 6), 1.0])


@pytest.mark.parametrize(("weights", "size"), [([1.0] * 8, 8.0), ([1.0, 0.0, 0.0], 1.0), ([1.0, 0.5], 2.25 / 1.25)])
def test_the_effective_sample_size_is_the_number_of_equal_draws(weights: list[float], size: float) -> None:
    assert effective_sample_size(weights) == pytest.approx(size)


def test_a_prompt_whose_proposals_are_worth_too_little_is_skipped_with_its_figures() -> None:
    """Pi hardly ever gives what ref gives: of 16 proposals about one carries the weight."""
    engine = ThreeAnswers({1: (0.90, 0.09, 0.01), 0: (0.001, 0.009, 0.99)})
    found = drawing(engine, geometric(0.9, num_proposals=16, min_effective_samples=8)).draw(PROMPTS)
    refused = [one for one in found if isinstance(one, Skipped)]
    assert {one.id for one in refused} <= {prompt.prompt_id for prompt in PROMPTS}
    assert any("of 16 proposals is" in one.reason and "below 8: raise" in one.reason for one in refused)
    assert all(one.effective_sample_size >= 8 for one in found if isinstance(one, Drawn) and one.effective_sample_size)


def test_an_engine_that_cannot_mix_tokens_says_what_can() -> None:
    with pytest.raises(EngineError, match=r"FakeEngine cannot mix .* `sequence`, which any engine can do"):
        drawing(FakeEngine(), geometric(0.5, method="token")).draw(PROMPTS)


def test_a_mixing_engine_holds_the_reference_beside_the_live_policy() -> None:
    engine = _MixingEngine()
    drawn(engine, geometric(0.25, method="token"))
    assert engine.live == a_version(1)
    assert engine.mixed == [(a_version(0), 0.25)]


class _MixingEngine(FakeEngine):
    """Says what it was asked to mix with."""

    def __init__(self) -> None:
        super().__init__()
        self.held: WeightVersion | None = None
        self.mixed: list[tuple[WeightVersion, float]] = []

    def hold(self, directory: Path, version: WeightVersion) -> None:
        self.held = version

    def generate_mixed(self, requests: Any, sampling: Any, held: WeightVersion, exponent: float) -> Any:
        assert held == self.held
        self.mixed.append((held, exponent))
        return self.generate(requests, sampling)
