"""What others wrote, at the door: text that is only data, and JSON that says one thing.

Whatever a judge, a server, a library or a person gave as a reason passes through `cleaned`, or is a field of the type
`OutsideText`, before it becomes a log line, an artifact or an answer.
"""

import json
import unicodedata
from typing import Annotated, Any

from pydantic import BeforeValidator

MAX_CHARS = 2000

_LINE_ENDS = "\n\t"
_REPLACED = "\N{REPLACEMENT CHARACTER}"


def cleaned(text: str, limit: int = MAX_CHARS) -> str:
    """At most `limit` characters, without control characters (but newline and tab) and without lone surrogates."""
    short = text[:limit]
    if short.isprintable():
        return short
    return "".join(_REPLACED if _is_control(character) else character for character in short)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and character not in _LINE_ENDS


def _cleaned_text(value: Any) -> Any:
    return cleaned(value) if isinstance(value, str) else value


OutsideText = Annotated[str, BeforeValidator(_cleaned_text)]


def strict_json(body: bytes) -> Any:
    """The value of a JSON text. ValueError where it is not UTF-8, names a key of an object twice, or is too deep.

    A NaN or an infinity becomes the float that it says: whoever reads that number refuses it where it stands.
    """
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) != len(entries):
        names = [name for name, _ in entries]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {cleaned(twice, 100)!r} is there twice")
    return found
