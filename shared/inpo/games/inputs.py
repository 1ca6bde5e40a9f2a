"""What callers hand in, checked: a ValueError says which argument is wrong, and how."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.inpo.games.arrays import Vector

# As far as rounding to 32 bits takes sums of probabilities from 1.
SUM_TOLERANCE = 1e-6


def number(name: str, value: object, kind: str = "a number") -> float:
    """A real number of any type as a float, infinities and NaN included; booleans and text are none."""
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be {kind}, not {value!r}")
    return float(array)


def whole_number(name: str, value: object) -> int:
    """An integer of any type, not negative."""
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iu" or array < 0:
        raise ValueError(f"{name} must be a whole number that is at least 0, not {value!r}")
    return int(array)


def distribution(name: str, values: ArrayLike, size: int) -> Vector:
    """`size` probabilities that sum to 1, as `frozen` makes it."""
    array = frozen(name, values)
    if array.shape != (size,):
        raise ValueError(f"{name} must hold {size} probabilities, not an array of shape {array.shape}")
    smallest, total = float(array.min()), float(array.sum())
    if not (smallest >= 0.0 and abs(total - 1.0) <= SUM_TOLERANCE):
        found = f"the smallest is {smallest:g}, the sum {total:.9g}"
        raise ValueError(f"{name} must be probabilities that sum to 1: {found}")
    return array


def frozen(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """A copy in 64 bits that cannot be written to."""
    try:
        given: NDArray[Any] = np.asarray(values)
        if np.iscomplexobj(given):
            raise ValueError("complex numbers")
        array = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    array.setflags(write=False)
    return array
