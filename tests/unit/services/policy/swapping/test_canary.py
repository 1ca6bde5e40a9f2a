"""The canary's verdict on an engine, from numbers alone: a trainer's log-probs, and an engine that rounds them."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from services.policy.engine import EngineError, SwapRefusedError
from services.policy.swapping.canary import CHUNK_TOKENS, CanaryCheck
from shared.contracts.weights import Canary, Precision

NUM_SEQUENCES = 32
NUM_TOKENS = 64
Floats = NDArray[np.float64]
Score = Callable[[Sequence[Sequence[int]]], list[list[float]]]


class Trial:
    """A step of typical size `moved` nats a token, and an engine whose answers are off by `noise` nats a token.

    `made` is the share of the step that the engine has made: 1 of new weights, 0 of old ones.
    """

    def __init__(self, seed: int, *, moved: float, noise: float) -> None:
        draws = np.random.default_rng(seed)
        shape = (NUM_SEQUENCES, NUM_TOKENS)
        self.old = -draws.gamma(1.0, 2.0, shape)
        self.new = self.old + moved * draws.standard_normal(shape)
        # Rounding has heavier tails than a normal distribution.
        self.error = noise * draws.standard_t(5, shape) / math.sqrt(5 / 3)

    def canary(self) -> Canary:
        sequences = [[index, *range(NUM_TOKENS)] for index in range(NUM_SEQUENCES)]
        return Canary(sequences=sequences, log_probs=self.new.tolist(), parent_log_probs=self.old.tolist())

    def engine(self, made: float) -> Score:
        answers: Floats = self.old + made * (self.new - self.old) + self.error
        return lambda sequences: [answers[ids[0]].tolist() for ids in sequences]


def calibrated(precision: Precision, noise: float) -> CanaryCheck:
    """A check that has accepted the reference policy, whose log-probs the engine gets wrong by `noise`."""
    found = CanaryCheck(precision)
    trial = Trial(0, moved=0.0, noise=noise)
    assert found.check(trial.canary(), trial.engine(1.0)).outcome == "unmoved"
    return found


def outcome(check: CanaryCheck, trial: Trial, made: float) -> str:
    try:
        return check.check(trial.canary(), trial.engine(made)).outcome
    except SwapRefusedError:
        return "refused"


@pytest.mark.parametrize(
    ("precision", "noise", "moved"),
    [("float32", 2e-6, 1e-4), ("float32", 2e-6, 1e-6), ("bfloat16", 0.064, 0.046), ("bfloat16", 0.064, 0.003)],
)
def test_old_weights_never_pass_for_new_ones(precision: Precision, noise: float, moved: float) -> None:
    """1,000 trials at the rounding and the steps measured on a real model, one of them too small to decide."""
    check = calibrated(precision, noise)
    outcomes = [outcome(check, Trial(seed, moved=moved, noise=noise), 0.0) for seed in range(1, 1001)]
    assert outcomes.count("new") == 0


@pytest.mark.parametrize(
    ("precision", "noise", "moved"), [("float32", 2e-6, 1e-4), ("bfloat16", 0.064, 0.046), ("bfloat16", 0.05, 0.02)]
)
def test_new_weights_are_known_for_new_and_hardly_ever_refused(
    precision: Precision, noise: float, moved: float
) -> None:
    """The slope's error is noise / (moved sqrt(2,048 tokens)): at most .055, and 1 is 18 of those away from 0."""
    check = calibrated(precision, noise)
    outcomes = [outcome(check, Trial(seed, moved=moved, noise=noise), 1.0) for seed in range(1, 301)]
    assert outcomes.count("new") >= 299


def test_a_step_below_what_the_tokens_can_tell_is_undecided_and_serves() -> None:
    """.003 nats in rounding of .064: the error is .064 / (.003 sqrt(2,048)) = .47, and 4.5 of those hold 0 and 1."""
    trial = Trial(1, moved=0.003, noise=0.064)
    verdict = calibrated("bfloat16", 0.064).check(trial.canary(), trial.engine(1.0))
    assert (verdict.outcome, verdict.num_tokens) == ("undecided", NUM_SEQUENCES * NUM_TOKENS)
    assert verdict.error == pytest.approx(0.47, rel=0.1)


@pytest.mark.parametrize("made", [0.0, 0.5, 0.9, 2.0])
@pytest.mark.parametrize(("precision", "noise", "moved"), [("float32", 2e-6, 1e-2), ("bfloat16", 0.05, 0.5)])
def test_an_engine_that_has_not_made_the_step_is_refused(
    made: float, precision: Precision, noise: float, moved: float
) -> None:
    """A part of the weights left behind makes a part of the step: no single token need be far off for that."""
    assert outcome(calibrated(precision, noise), Trial(3, moved=moved, noise=noise), made) == "refused"


def test_the_refusal_says_what_the_engine_computes() -> None:
    """The step is .05 nats at a rounding of .01: 512 tokens place what was made to .009."""
    trial, check = Trial(1, moved=0.05, noise=0.01), calibrated("bfloat16", 0.01)
    with pytest.raises(SwapRefusedError, match="still computes the old log-probs: it has made"):
        check.check(trial.canary(), trial.engine(0.0))
    with pytest.raises(SwapRefusedError, match=r"neither the old weights nor the new: it has made 0\.4"):
        check.check(trial.canary(), trial.engine(0.5))


def test_no_more_tokens_are_scored_than_the_decision_takes() -> None:
    trial = Trial(1, moved=0.1, noise=2e-6)
    assert calibrated("float32", 2e-6).check(trial.canary(), trial.engine(1.0)).num_tokens == CHUNK_TOKENS


@pytest.mark.parametrize(("precision", "distance"), [("float32", 2e-3), ("float16", 0.2), ("bfloat16", 0.6)])
def test_an_engine_that_holds_another_model_is_refused_before_anything_is_known(
    precision: Precision, distance: float
) -> None:
    trial = Trial(1, moved=0.0, noise=distance)
    with pytest.raises(SwapRefusedError, match=f"computes another model.*in {precision}"):
        CanaryCheck(precision).check(trial.canary(), trial.engine(1.0))


def test_the_setting_takes_the_place_of_what_the_precision_allows() -> None:
    trial = Trial(1, moved=0.0, noise=0.6)
    assert CanaryCheck("bfloat16", 1.0).check(trial.canary(), trial.engine(1.0)).rounding == pytest.approx(0.6, rel=0.1)


def test_later_versions_must_round_as_the_first_one_did() -> None:
    """Off by ten times the rounding of the reference policy, at random: no step would show it, and no old weights."""
    check = calibrated("bfloat16", 0.02)
    assert outcome(check, Trial(2, moved=0.1, noise=0.02), 1.0) == "new"
    assert outcome(check, Trial(2, moved=0.1, noise=0.2), 1.0) == "refused"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_log_prob_that_is_not_finite_refuses_the_swap(precision: Precision, value: float) -> None:
    trial = Trial(1, moved=0.1, noise=0.0)
    trial.error[3, 5] = value
    assert outcome(CanaryCheck(precision), trial, 1.0) == "refused"


TWO_TOKENS = Canary(sequences=[[1, 2], [3, 4]], log_probs=[[-1.0], [-2.0]], parent_log_probs=[[-1.5], [-2.5]])


@pytest.mark.parametrize("field", ["log_probs", "parent_log_probs"])
def test_a_canary_with_values_missing_is_refused(field: str) -> None:
    broken = TWO_TOKENS.model_copy(update={field: [[-1.0], []]})
    with pytest.raises(SwapRefusedError, match=f"canary.json: {field} does not have"):
        CanaryCheck("float32").check(broken, lambda sequences: [[-1.0], [-2.0]])


def test_an_engine_that_answers_for_fewer_tokens_is_refused() -> None:
    with pytest.raises(SwapRefusedError, match="the engine's answer does not have"):
        CanaryCheck("float32").check(TWO_TOKENS, lambda sequences: [[-1.0], []])


def test_an_empty_canary_is_refused() -> None:
    with pytest.raises(SwapRefusedError, match="holds no token"):
        CanaryCheck("float32").check(Canary(sequences=[], log_probs=[], parent_log_probs=[]), lambda sequences: [])


def test_tokens_before_a_start_are_scored_but_not_compared() -> None:
    """The prompt's log-probs are -9 in the engine, and of no interest."""
    canary = Canary(sequences=[[1, 2, 3, 4]], starts=[2], log_probs=[[-1.0, -2.0]], parent_log_probs=[[-1.5, -2.5]])
    verdict = CanaryCheck("float32").check(canary, lambda sequences: [[-9.0, -1.0, -2.0]])
    assert (verdict.outcome, verdict.num_tokens, verdict.rounding, verdict.slope) == ("new", 2, 0.0, 1.0)


def test_an_engine_that_cannot_score_is_refused() -> None:
    def fail(sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        raise EngineError("token id 9 is not in the vocabulary")

    with pytest.raises(SwapRefusedError, match="token id 9"):
        CanaryCheck("float32").check(TWO_TOKENS, fail)
