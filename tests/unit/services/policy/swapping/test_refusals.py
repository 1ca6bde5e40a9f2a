"""What counts against weights: what is wrong with them, not what is wrong with the disk below them."""

import errno

import pytest

from services.policy.engine import SwapGivenUpError, SwapRefusedError
from services.policy.swapping.refusals import MAX_TRIES, Refusals
from shared.contracts.weights import WeightVersion

VERSION = WeightVersion(run="run", number=1, digest="d" * 64, directory="runs/run/weights/0001-1")


def refused(refusals: Refusals, cause: Exception) -> None:
    with pytest.raises(SwapRefusedError), refusals.trying(VERSION):
        raise SwapRefusedError(str(cause)) from cause


def test_a_failing_disk_is_never_held_against_the_weights_on_it() -> None:
    refusals = Refusals(lambda: 0.0)
    for _ in range(3 * MAX_TRIES):
        refused(refusals, OSError(errno.EIO, "Input/output error"))
    with refusals.trying(VERSION):
        pass
    assert refusals.reason is None


def test_broken_weights_are_given_up() -> None:
    refusals = Refusals(lambda: 0.0)
    for _ in range(MAX_TRIES):
        refused(refusals, ValueError("a digest differs"))
    with pytest.raises(SwapGivenUpError, match="a digest differs"), refusals.trying(VERSION):
        pass
