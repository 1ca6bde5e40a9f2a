"""From a probability to the oracle's answer: the probability itself, or a seeded draw from it (INPO, definition 1)."""

from typing import Literal

from shared.inpo.selection import draw_answer


def answer_of(mode: Literal["binary", "probability"], probability: float | None, *parts: str | int) -> float | None:
    """The answer to one asking of a comparison; None where the judge gave no probability.

    `parts` identify the asking: equal parts draw equally, everywhere and at any time.
    """
    if probability is None or mode == "probability":
        return probability
    return draw_answer(probability, *parts)
