"""The canary's verdict on an engine, from numbers alone. Sequences of two tokens: one log-prob each."""

import math
from collections.abc import Sequence

import pytest

from services.policy.canary import check_canary
from services.policy.engine import EngineError, SwapRefusedError
from shared.contracts.weights import Canary

SEQUENCES = [[1, 2], [3, 4]]


def check(engine: list[float], new: list[float], old: list[float], tolerance: float = 1e-3) -> float:
    canary = Canary(
        sequences=SEQUENCES, log_probs=[[value] for value in new], parent_log_probs=[[value] for value in old]
    )
    return check_canary(canary, lambda sequences: [[value] for value in engine], tolerance)


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
        check_canary(canary, fail, 1e-3)
