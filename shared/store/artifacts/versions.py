"""What another release wrote, told from what is broken: what a newer release understands is not to be buried.

During an upgrade both releases work on one store. What one of them cannot read it leaves to the other, and says so.
"""

import json
from importlib.metadata import version as installed_version
from typing import Any, cast

from pydantic import ValidationError

VERSION = installed_version("inpo")
WRITTEN_BY = "written_by"

_UNKNOWN = frozenset({"extra_forbidden", "literal_error", "union_tag_invalid", "enum"})


def of_another_release(data: bytes | str, error: ValidationError) -> str | None:
    """Who wrote JSON that does not validate, and what of it is unknown here; None when it is just broken.

    It is another release's when it says so, or when nothing is wrong with it but fields and values that are new.
    """
    writer = _writer(data)
    unknown = [fault for fault in error.errors() if fault["type"] in _UNKNOWN]
    if writer in (None, VERSION) and len(unknown) < error.error_count():
        return None
    names = ", ".join(dict.fromkeys(".".join(map(str, fault["loc"])) for fault in unknown or error.errors()))
    by = f"INPO {writer}" if writer not in (None, VERSION) else "another release"
    return f"was written by {by}, this is INPO {VERSION}; not understood here: {names}"


def _writer(data: bytes | str) -> str | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    found = cast(dict[str, Any], value) if isinstance(value, dict) else {}
    writer = found.get(WRITTEN_BY, found.get("code_revision"))
    return writer if isinstance(writer, str) else None
