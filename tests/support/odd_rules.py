"""Rules that misbehave, each in its own way."""

import math

from tests.support.rules import Rule


def constant(value: float | None) -> Rule:
    """Always answers `value`, in either order: all position, no preference."""
    return lambda prompt, first, second: value


def not_a_number() -> Rule:
    """Answers NaN."""
    return constant(math.nan)


def raising(when: str) -> Rule:
    """Raises where the first response is `when`, and prefers the first otherwise."""

    def rule(prompt: object, first: str, second: str) -> float:
        del prompt, second
        if first == when:
            raise LookupError(f"no idea about {first}")
        return 0.75

    return rule


def no_rule() -> int:
    """A factory that makes no callable."""
    return 3


def texts() -> Rule:
    """Answers with text."""
    return lambda prompt, first, second: "A"  # type: ignore[return-value]
