"""The one face of every judge: a batch of comparisons in, as many opinions out, in order.

A judge that fails says so (`error`); one that answers without a usable verdict says that (`abstain`). Neither is ever
a number: a label that nobody gave does not exist.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from shared.contracts.judges import JudgeSpec
from shared.contracts.outside import cleaned
from shared.contracts.records import Message, VerdictStatus
from shared.contracts.rest.judging import JudgeIdentity

OWN_RULES = "services.oracle.rules."
MAX_REASON = 1000


class JudgeBuildError(ValueError):
    """The specification leads to no working judge; `field` names the part of it that is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = cleaned(reason)
        super().__init__(f"{field}: {self.reason}")


class JudgeUnavailableError(RuntimeError):
    """The judge cannot be asked now, whatever the question. What it answered before that is kept.

    `retry_after_s` is its own wish; `longest_pause_s` bounds the pauses between askings; `silent_s`, where known, is
    how long it has shown no sign of life; `progress` grows with every answer that is had.
    """

    def __init__(
        self, reason: str, *, retry_after_s: float = 0.0, longest_pause_s: float = 60.0, silent_s: float | None = None
    ) -> None:
        super().__init__(cleaned(reason))
        self.retry_after_s = retry_after_s
        self.longest_pause_s = longest_pause_s
        self.silent_s = silent_s
        self.progress = 0


class JudgeChangedError(RuntimeError):
    """The judge is not the one that this run began with: its preferences would be mixed with another's."""

    def __init__(self, reason: str) -> None:
        super().__init__(cleaned(reason))


class JudgeRefusedError(RuntimeError):
    """The judge refuses to be asked like this (wrong key, wrong URL): only a person can mend that."""

    def __init__(self, reason: str) -> None:
        super().__init__(cleaned(reason))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question to a judge: which of two responses to the prompt is better.

    `draw` is how often it was asked before; only a stochastic judge may answer another draw differently.
    """

    prompt: Sequence[Message]
    first: str
    second: str
    draw: int = 0


@dataclass(frozen=True, slots=True)
class Opinion:
    """The answer: P(first beats second) as seen in the given order and, turned back, with the positions exchanged.

    `probability_swapped` is None where the judge has no position to be biased by. Made by `opinion`, `abstention`
    and `failure` only, so that statuses and numbers always agree.
    """

    status: VerdictStatus
    probability_given: float | None
    probability_swapped: float | None
    error: str | None
    latency_s: float

    @property
    def probability(self) -> float | None:
        """Mean over the orders asked; None unless the status is `ok` or `tie`."""
        if self.probability_given is None:
            return None
        return _mean(self.probability_given, self.probability_swapped)


def opinion(given: float, swapped: float | None, latency_s: float) -> Opinion:
    """What a judge answered. A NaN, or anything outside [0, 1], makes it a failure; exactly 1/2 is a tie."""
    for value in (given, swapped):
        if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
            return failure(f"the judge answered {value}, which is not a probability", latency_s)
    status: VerdictStatus = "tie" if _mean(given, swapped) == 0.5 else "ok"
    return Opinion(status, given, swapped, None, latency_s)


def abstention(reason: str, latency_s: float) -> Opinion:
    """The judge cannot answer this comparison, however often it is asked."""
    return Opinion("abstain", None, None, cleaned(reason, MAX_REASON), latency_s)


def failure(reason: str, latency_s: float) -> Opinion:
    """The judge did not answer; asking again may help."""
    return Opinion("error", None, None, cleaned(reason, MAX_REASON), latency_s)


class Judge(Protocol):
    """One backend of the oracle. Position bias, where there can be any, is averaged out by asking both orders."""

    def identity(self) -> JudgeIdentity:
        """Who answers; the revision changes with whatever could change an answer."""
        ...

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """One opinion a comparison, in order.

        `JudgeUnavailableError` when nothing can be asked now, `JudgeChangedError` and `JudgeRefusedError` as they say.
        """
        ...


_FACTORIES = {
    "rules": "services.oracle.judges.rules",
    "reward_model": "services.oracle.judges.local.reward_model",
    "pair_model": "services.oracle.judges.local.pair_model",
}


def build_judge(spec: JudgeSpec, *, device: str = "auto", entry_points: Sequence[str] = (OWN_RULES,)) -> Judge:
    """The judge of this process behind a specification; `JudgeBuildError` names the field that is wrong and why.

    Judges are modules loaded by name: only a local model brings torch into the process. A rule's entry point must begin
    with one of `entry_points`: whoever may create a run must not thereby run any code.
    """
    if spec.kind == "rules" and not spec.entry_point.startswith(tuple(entry_points)):
        allowed = ", ".join(entry_points) or "no prefix"
        reason = f"{spec.entry_point} is not below {allowed}; the oracle's INPO_ORACLE_ENTRY_POINTS allows more"
        raise JudgeBuildError("entry_point", reason)
    name = _FACTORIES.get(spec.kind)
    if name is None:
        raise JudgeBuildError(
            "kind", f"{spec.kind} judges are no part of this process; see services.oracle.judges.building"
        )
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        remedy = f"needs the package {error.name}: install inpo[oracle,local-models]"
        raise JudgeBuildError("kind", f"{spec.kind} {remedy}") from error
    build = cast(Callable[[JudgeSpec, str], Judge], module.build)
    return build(spec, device)


def _mean(given: float, swapped: float | None) -> float:
    return given if swapped is None else (given + swapped) / 2
