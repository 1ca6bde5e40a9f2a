"""JSON in the strict sense: UTF-8, no NaN and no infinity, no lone surrogate, neither too deep nor of too many values.

Depth and values are counted before anything is built, so that a small body cannot become a large object; no step holds
the interpreter for more than a moment, so that a check in a thread leaves the event loop its turn.
"""

import json
import math
from typing import Any, NoReturn, cast

MAX_DEPTH = 64
MAX_VALUES = 1_000_000
MAX_DIGITS = 1000

_TOO_MANY = f"more than {MAX_VALUES} values"
_OUTLINE = b'"[]{},'
_NO_OUTLINE = bytes(set(range(256)) - set(_OUTLINE))
_AS_LISTS = bytes.maketrans(b"{}", b"[]")


def json_fault(body: bytes) -> str | None:
    """What keeps a body from being strict JSON; None when nothing does."""
    wrong = _outline_fault(body)
    if wrong is not None:
        return wrong
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_bounded)
    except ValueError as error:
        return str(error)
    return "a string holds a lone surrogate" if "\\u" in text and _holds_surrogate(value) else None


def _outline_fault(body: bytes) -> str | None:
    """Too many values or too deep, found in what is left of the body without its scalars' characters."""
    # Without escapes a string ends at the next quote. Pairs of backslashes first: what follows them is not escaped.
    outline = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(_AS_LISTS, _NO_OUTLINE)
    num_strings = outline.count(b'"') // 2
    if num_strings > MAX_VALUES:
        return _TOO_MANY
    outside = b"".join(outline.split(b'"')[::2])
    # As commas stand between values, there are at most as many scalars as commas, and one more.
    if num_strings + outside.count(b"[") + outside.count(b",") > MAX_VALUES:
        return _TOO_MANY
    return f"nested deeper than {MAX_DEPTH}" if _deeper(outside.translate(None, b","), MAX_DEPTH) else None


def _deeper(brackets: bytes, limit: int) -> bool:
    """Whether the brackets ever open more than `limit` that are not closed yet."""
    inside = brackets
    for _ in range(limit):
        inside = inside.replace(b"[]", b"")
        if not inside:
            return False
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket == ord("[") else -1
        if depth > limit:
            return True
    return False


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number is too large for a float")
    return value


def _bounded(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer has more than {MAX_DIGITS} digits")
    return int(digits)


def _holds_surrogate(value: Any) -> bool:
    level: list[Any] = [value]
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                entries = cast(dict[str, Any], item)
                below.extend(entries)
                below.extend(entries.values())
            elif isinstance(item, list):
                below.extend(cast(list[Any], item))
            elif isinstance(item, str) and not _encodable(item):
                return True
        level = below
    return False


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
