"""The assertion before the first step: worked examples with three pairs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.trainer.errors import WrongPolicyError
from services.trainer.forward.sequences import Sequences
from services.trainer.optimisation.pairs import Pairs
from services.trainer.optimisation.policy_check import check_step_zero
from shared.contracts.plans import HalfStepPlan
from shared.contracts.spec import TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.store.artifacts.store import DirectoryStore
from tests.support import tiny_training

STORED = np.array([-10.0, -4.0, -6.0, -8.0, -4.0, -2.0], dtype=np.float32)
ROWS = np.arange(6)


@pytest.fixture
def plan(tmp_path: Path) -> HalfStepPlan:
    store = DirectoryStore(tmp_path)
    version = WeightVersion(run="run", number=0, digest="0" * 64, directory="nowhere")
    training = TrainingSpec(step_zero_tolerance=0.01, witness_tolerance=0.1)
    return tiny_training.read_plan(store, tiny_training.put_half_step(store, version, [], training=training))


def pairs(sampler: list[float]) -> Pairs:
    """Three pairs whose six responses have two tokens each."""
    return Pairs(
        prompt_ids=["a", "b", "c"],
        sequences=Sequences([([1], [2, 3])] * 6),
        preference=np.ones(3, dtype=np.float32),
        sampler=np.array(sampler),
        sampled_by=np.zeros(6, dtype=np.int64),
        win_rates=None,
        precision="float32",
        skipped=[],
    )


def test_differences_are_measured_in_nats_a_token(plan: HalfStepPlan) -> None:
    """0.01 nats over 2 tokens: 0.005 at most. Sampler: 0.12 over 2 tokens, one response of six: 0.01 on average."""
    policy = STORED + np.array([0, 0, 0.01, 0, 0, 0], dtype=np.float32)
    sampler = [-10.12, -4.0, -6.0, -8.0, -4.0, -2.0]
    metrics = check_step_zero(plan, pairs(sampler), ROWS, policy, STORED, STORED)
    assert metrics["step_zero_max_diff"] == pytest.approx(0.005, rel=1e-3)
    assert metrics["witness_mean_diff"] == pytest.approx(0.01, rel=1e-3)


def test_one_response_off_by_more_than_the_tolerance_is_refused_with_both_numbers(plan: HalfStepPlan) -> None:
    """0.03 nats over 2 tokens, on the rejected response of pair 1, which is the last of the three rows looked at."""
    rows = np.array([0, 1, 4])
    policy = STORED[rows] + np.array([0, 0, 0.03], dtype=np.float32)
    with pytest.raises(
        WrongPolicyError, match=r"rejected response of pair 1 \(prompt b\) its log-prob is -3\.97"
    ) as failure:
        check_step_zero(plan, pairs(STORED.tolist()), rows, policy, STORED, STORED)
    assert "stored is -4.000000" in str(failure.value)
    assert "training.step_zero_tolerance is 0.01" in str(failure.value)


def test_a_sampler_that_disagrees_on_average_is_refused_naming_the_worst_response(plan: HalfStepPlan) -> None:
    """0.9 + 0.6 nats over 2 tokens each, six responses: 0.125 nats a token, above 0.1."""
    sampler = [-10.0, -4.9, -6.0, -8.0, -4.0, -2.6]
    with pytest.raises(WrongPolicyError, match=r"by 0\.125 nats a token on average") as failure:
        check_step_zero(plan, pairs(sampler), ROWS, STORED, STORED, STORED)
    assert "chosen response of pair 1 (prompt b)" in str(failure.value)
    assert "the trainer's is -4.000000, the sampler's -4.900000" in str(failure.value)


def test_nan_is_never_within_the_tolerance(plan: HalfStepPlan) -> None:
    with pytest.raises(WrongPolicyError):
        check_step_zero(plan, pairs(STORED.tolist()), ROWS, STORED * np.float32("nan"), STORED, STORED)


def test_start_and_samplers_are_compared_each_with_their_own_log_probs(plan: HalfStepPlan) -> None:
    """A half-step that starts elsewhere than it samples: theta is 1 nat from the sampler's, and both are in order."""
    start = STORED + np.float32(1.0)
    metrics = check_step_zero(plan, pairs(STORED.tolist()), ROWS, start, start, STORED)
    assert metrics == {"step_zero_max_diff": 0.0, "witness_mean_diff": 0.0}
    with pytest.raises(WrongPolicyError, match="what sampled the pairs"):
        check_step_zero(plan, pairs(STORED.tolist()), ROWS, start, start, start)


def test_without_a_setting_the_coarser_precision_says_what_is_allowed(plan: HalfStepPlan) -> None:
    """The sampler is .02 nats a token off on average: rounding in bfloat16, on either side, and a fault in float32."""
    unset = plan.model_copy(update={"training": TrainingSpec()})
    rounded = pairs((STORED + 0.04).tolist())
    with pytest.raises(WrongPolicyError, match=r"training\.witness_tolerance is 0\.001"):
        check_step_zero(unset, rounded, ROWS, STORED, STORED, STORED)
    check_step_zero(unset, rounded, ROWS, STORED, STORED, STORED, "bfloat16")
    check_step_zero(unset, replace(rounded, precision="bfloat16"), ROWS, STORED, STORED, STORED)


def test_a_sampler_in_low_precision_does_not_excuse_a_policy_that_is_not_the_plans(plan: HalfStepPlan) -> None:
    """Step 0 compares the trainer with itself."""
    unset = plan.model_copy(update={"training": TrainingSpec()})
    rounded = replace(pairs(STORED.tolist()), precision="bfloat16")
    with pytest.raises(WrongPolicyError, match=r"training\.step_zero_tolerance is 0\.001"):
        check_step_zero(unset, rounded, ROWS, STORED + np.float32(0.04), STORED, STORED)
