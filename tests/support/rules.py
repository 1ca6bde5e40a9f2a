"""Rules for tests: factories of P(first beats second)."""

from collections.abc import Callable, Sequence

from shared.contracts.records import Message

Rule = Callable[[Sequence[Message], str, str], float | None]


def longer_is_better(strength: float = 0.9) -> Rule:
    """The longer response wins with probability `strength`; equal lengths tie."""

    def rule(prompt: Sequence[Message], first: str, second: str) -> float | None:
        del prompt
        if len(first) == len(second):
            return 0.5
        return strength if len(first) > len(second) else 1.0 - strength

    return rule
