"""What an external judge's answer says, and what it does not: every doubt fails its comparison, never makes a number.

The envelope is checked first (JSON, identity, a list of results), then each result by itself: one that is wrong,
missing or there twice fails its own comparison and no other.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.oracle.judge import JudgeChangedError, Opinion, abstention, failure, opinion
from shared.contracts.judges import Order
from shared.contracts.outside import strict_json
from shared.contracts.records import VerdictStatus
from shared.contracts.rest.judging import JudgeIdentity

FIRST, SECOND = "a", "b"
_SHOWN = 200

_log = structlog.get_logger(__name__)


class UnreadableAnswerError(ValueError):
    """The answer as a whole says nothing that can be relied on."""


class _Heard(BaseModel):
    """Strict about what is understood, silent about what is not: judges may say more."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _HeardIdentity(_Heard):
    id: str = Field(min_length=1, max_length=200)
    revision: str = Field(min_length=1, max_length=200)
    transitive: bool = False
    both_orders: bool = False
    stochastic: bool = False


class _HeardResult(_Heard):
    item_id: str
    pair: list[str]
    status: VerdictStatus
    p: float | None = None
    p_given: float | None = None
    p_swapped: float | None = None
    error: str | None = None


def read_identity(body: bytes) -> JudgeIdentity:
    """Who answered; `UnreadableAnswerError` says what is wrong with the answer."""
    return _identity(_envelope(body))


def read_answers(
    body: bytes, *, asked: tuple[str, ...], identity: JudgeIdentity, order: Order, latency_s: float
) -> dict[str, Opinion]:
    """An opinion for every id asked. `JudgeChangedError` when somebody else answered."""
    try:
        envelope = _envelope(body)
        answered = _identity(envelope)
        results = envelope.get("results")
        if not isinstance(results, list):
            raise UnreadableAnswerError("the judge's answer has no list `results`")
    except UnreadableAnswerError as error:
        return {identity: failure(str(error), latency_s) for identity in asked}
    if answered != identity:
        raise JudgeChangedError(
            f"the judge was {identity.id} at {identity.revision}, now {answered.id} at {answered.revision} answers"
        )
    both = order == "both" and identity.both_orders
    return _matched(cast(list[Any], results), asked, both=both, latency_s=latency_s)


def _matched(results: list[Any], asked: tuple[str, ...], *, both: bool, latency_s: float) -> dict[str, Opinion]:
    found: dict[str, Opinion] = {}
    unknown = 0
    for result in results:
        name = cast(dict[str, Any], result).get("item_id") if isinstance(result, dict) else None
        if not isinstance(name, str) or name not in asked:
            unknown += 1
        elif name in found:
            found[name] = failure("the judge answered this comparison twice", latency_s)
        else:
            found[name] = _opinion_of(result, both=both, latency_s=latency_s)
    if unknown:
        _log.warning("judge_answered_unasked", num=unknown)
    missing = failure("the judge's answer has no result for this comparison", latency_s)
    return {name: found.get(name, missing) for name in asked}


def _opinion_of(result: Any, *, both: bool, latency_s: float) -> Opinion:
    try:
        heard = _HeardResult.model_validate(result)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
        return failure(f"the judge's result is not valid: {wrong}", latency_s)
    if heard.pair != [FIRST, SECOND]:
        return failure(f"the judge answered for the pair {str(heard.pair)[:_SHOWN]}, asked was a against b", latency_s)
    if heard.status == "error":
        return failure(f"the judge failed: {heard.error or 'it gave no reason'}", latency_s)
    fault = _fault(heard, both=both)
    if fault is not None:
        return failure(f"the judge's result is not valid: {fault}", latency_s)
    if heard.p is None:
        return abstention(heard.error or "the judge gave no reason", latency_s)
    return opinion(heard.p_given if both and heard.p_given is not None else heard.p, _swapped(heard, both), latency_s)


def _fault(heard: _HeardResult, *, both: bool) -> str | None:
    """What keeps status and numbers from agreeing."""
    for name, value in (("p", heard.p), ("p_given", heard.p_given), ("p_swapped", heard.p_swapped)):
        if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
            return f"{name} is {value}, which is not a probability"
    if heard.status == "abstain":
        return None if heard.p is None else "an abstention has no p"
    if heard.p is None:
        return f"status {heard.status} needs p"
    if heard.status == "tie" and heard.p != 0.5:
        return f"a tie with p {heard.p}"
    return _disagreement(heard, heard.p, both=both)


def _disagreement(heard: _HeardResult, p: float, *, both: bool) -> str | None:
    given = p if heard.p_given is None else heard.p_given
    swapped = _swapped(heard, both)
    mean = given if swapped is None else (given + swapped) / 2
    if abs(mean - p) > 1e-6:
        return f"p is {p}, p_given and p_swapped make it {mean}"
    return None


def _swapped(heard: _HeardResult, both: bool) -> float | None:
    return heard.p_swapped if both and heard.p_given is not None else None


def _envelope(body: bytes) -> dict[str, Any]:
    try:
        value = strict_json(body)
    except ValueError as error:
        raise UnreadableAnswerError(f"the judge's answer is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UnreadableAnswerError("the judge's answer is not a JSON object")
    return cast(dict[str, Any], value)


def _identity(envelope: Mapping[str, Any]) -> JudgeIdentity:
    try:
        heard = _HeardIdentity.model_validate(envelope.get("judge"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(('judge', *map(str, item['loc'])))}: {item['msg']}" for item in error.errors())
        raise UnreadableAnswerError(f"the judge does not say who it is: {wrong}") from None
    if not (heard.id + heard.revision).isprintable():
        raise UnreadableAnswerError("the judge does not say who it is: its id or revision is not printable")
    return JudgeIdentity(**heard.model_dump(), kind="http")
