"""What an iteration left out, counted by reason."""

import pytest

from services.controller.measuring.skipped import by_reason, identical_share
from shared.contracts.records import Skipped


def _skipped(*reasons: str) -> list[Skipped]:
    return [Skipped(id=f"p{number}", reason=reason) for number, reason in enumerate(reasons)]


def test_reasons_that_differ_in_numbers_only_are_one_reason() -> None:
    skipped = _skipped(
        "identical responses (0 and 3)",
        "over-long: 90 tokens, limit 64",
        "identical responses (1 and 2)",
        "prompt + response has 2,100 tokens, training.max_pair_tokens is 2048",
        "prompt + response has 3000 tokens, training.max_pair_tokens is 2048",
        "identical responses (4 and 5)",
    )
    assert by_reason(skipped) == {
        "identical responses": 3,
        "prompt + response has N tokens, training.max_pair_tokens is N": 2,
        "over-long": 1,
    }


def test_the_order_does_not_depend_on_who_came_first() -> None:
    assert list(by_reason(_skipped("b", "a"))) == list(by_reason(_skipped("a", "b"))) == ["a", "b"]


@pytest.mark.parametrize(("identical", "kept", "share"), [(3, 9, 0.25), (0, 9, 0.0), (0, 0, 0.0), (2, 0, 1.0)])
def test_the_identical_share_is_of_the_pairs_that_were_selected(identical: int, kept: int, share: float) -> None:
    dropped = {"identical responses": identical} if identical else {}
    assert identical_share(dropped, kept) == share
