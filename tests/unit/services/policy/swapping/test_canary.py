"""The canary's verdict on an engine, from numbers alone. Sequences of two tokens: one log-prob each."""

import math
from collections.abc import Sequence

import pytest

from services.policy.engine import EngineError, SwapRefusedError
from services.policy.swapping.canary import CanaryCheck
from shared.contracts.weights import Canary

SEQUENCES = [[1, 2], [3, 4]]


def check(engine: list[float], new: list[float], old: list[float], tolerance: float = 1e-3) -> float:
    canary = Canary(
        sequences=SEQUENCES, log_probs=[[value] for value in new], parent_log_probs=[[value] for value in old]
    )
    return CanaryCheck(tolerance, "float32").check(canary, lambda sequences: [[value] for value in engine]).distance


def test_the_largest_difference_is_reported() -> None:
    assert check([-1.0, -2.0005], new=[-1.0, -2.0], old=[-1.5, -2.5]) == pytest.approx(0.0005)


@pytest.mark.parametrize("value", [-2.1, math.nan, -math.inf])
def test_one_token_that_is_off_refuses_the_swap(value: float) -> None:
    with pytest.raises(SwapRefusedError, match="nats away"):
        check([-1.0, value], new=[-1.0, -2.0], old=[-1.0, -2.0])


def test_an_engine_nearer_to_the_old_weights_is_refused_even_within_the_tolerance() -> None:
    """|new - old| = 0.2 > 0.15; the engine is 0.12 from the new and 0.08 from the old."""
    with pytest.raises(SwapRefusedError, match="old log-probs"):
        check([-1.0, -2.12], new=[-1.0, -2.0], old=[-1.0, -2.2], tolerance=0.15)


def test_weights_that_hardly_moved_need_not_be_told_apart() -> None:
    """|new - old| = 1e-4 is below the tolerance: rounding alone may put the engine nearer to either."""
    assert check([-1.0, -2.0001], new=[-1.0, -2.0], old=[-1.0, -2.0001]) <= 1e-3


@pytest.mark.parametrize(("new", "old"), [([-1.0], [-1.0, -2.0]), ([-1.0, -2.0], [-1.0])])
def test_a_canary_with_values_missing_is_refused(new: list[float], old: list[float]) -> None:
    with pytest.raises(SwapRefusedError, match=r"canary\.json"):
        check([-1.0, -2.0], new=new, old=old)


def test_an_engine_that_cannot_score_is_refused() -> None:
    def fail(sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        raise EngineError("token id 9 is not in the vocabulary")

    canary = Canary(sequences=SEQUENCES, log_probs=[[-1.0], [-2.0]], parent_log_probs=[[-1.0], [-2.0]])
    with pytest.raises(SwapRefusedError, match="token id 9"):
        CanaryCheck(1e-3, "float32").check(canary, fail)


def seasoned(rounding: float, tolerance: float = 1e-3, dtype: str = "float32") -> CanaryCheck:
    """A check that has accepted one canary, from which the engine was `rounding` nats away."""
    found = CanaryCheck(tolerance, dtype)
    found.check(canary_of([-1.0], [-1.0]), lambda sequences: [[-1.0 - rounding]])
    return found


def canary_of(new: list[float], old: list[float]) -> Canary:
    return Canary(
        sequences=[[1, 2]] * len(new), log_probs=[[value] for value in new], parent_log_probs=[[value] for value in old]
    )


def test_the_tolerance_is_a_quarter_of_the_step_once_the_rounding_is_known() -> None:
    """A step of 4e-4 gives 1e-4: an engine 2e-4 away has half of the step missing, and is refused within 1e-3."""
    verdict = seasoned(1e-6).check(canary_of([-1.0], [-1.0004]), lambda sequences: [[-1.00005]])
    assert verdict.tolerance == pytest.approx(1e-4)
    assert verdict.decisive
    with pytest.raises(SwapRefusedError, match=r"the tolerance is 0\.0001"):
        seasoned(1e-6).check(canary_of([-1.0], [-1.0004]), lambda sequences: [[-1.0002]])


def test_the_tolerance_is_never_below_four_times_the_measured_rounding() -> None:
    """A rounding of 5e-5 measured first; a step of 1e-4 would ask for 2.5e-5, but 2e-4 is what rounding may do.

    The canary cannot tell the old from the new weights then, and the verdict says so.
    """
    verdict = seasoned(5e-5).check(canary_of([-1.0], [-1.0001]), lambda sequences: [[-1.0001]])
    assert verdict.tolerance == pytest.approx(2e-4)
    assert not verdict.decisive


@pytest.mark.parametrize(("dtype", "least"), [("float32", 2e-5), ("float16", 4e-3), ("bfloat16", 2e-2)])
def test_a_lucky_first_rounding_does_not_narrow_the_tolerance_below_the_precision(dtype: str, least: float) -> None:
    verdict = seasoned(0.0, 1.0, dtype).check(canary_of([-1.0], [-1.000001]), lambda sequences: [[-1.0]])
    assert (verdict.tolerance, verdict.decisive) == (least, False)


def test_weights_without_a_parent_have_the_setting_as_tolerance() -> None:
    """The reference policy is its own parent: there is nothing to tell it from."""
    verdict = seasoned(1e-6).check(canary_of([-1.0], [-1.0]), lambda sequences: [[-1.0005]])
    assert (verdict.tolerance, verdict.decisive) == (1e-3, False)


def test_the_setting_is_the_widest_tolerance() -> None:
    verdict = seasoned(1e-6).check(canary_of([-1.0], [-2.0]), lambda sequences: [[-1.0]])
    assert (verdict.tolerance, verdict.decisive) == (1e-3, True)
