"""Which URLs the oracle may call, and with which key. Matched by their parts, never as text.

A prefix is `scheme://host[:port][/path]`; the port `*` stands for any, no port for the scheme's own. A path covers
itself and what is below it. URLs with user info, query, fragment, escapes or dot segments are refused whatever the
prefixes say: two programs may read those differently.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.oracle.judge import JudgeBuildError
from shared.runtime.key_files import read_private

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}|\*))?(?P<path>/[A-Za-z0-9._~/:@!$&'()+,;=-]*)?",
    re.ASCII,
)
_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Place:
    """The parts of a URL or prefix that decide who is called."""

    scheme: str
    host: str
    port: str
    path: str

    def covers(self, other: "Place") -> bool:
        """Whether a prefix allows a URL."""
        same = (self.scheme, self.host) == (other.scheme, other.host) and self.port in ("*", other.port)
        path = self.path.rstrip("/")
        return same and (other.path == path or other.path.startswith(f"{path}/"))


def place_of(text: str) -> Place:
    """The parts; ValueError says why the text is no plain URL."""
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    found = _URL.fullmatch(f"{scheme.lower()}{separator}{authority.lower()}{slash}{path}")
    if found is None:
        raise ValueError(
            f"{_shown(text)!r} is not of the form http(s)://host[:port]/path, without user info, query and escapes"
        )
    path = found["path"] or "/"
    if any(part in (".", "..") for part in path.split("/")) or "//" in path:
        raise ValueError(f"{text!r} has dot segments or empty segments in its path")
    return Place(found["scheme"], found["host"], _port(found), path)


def check_allowed(url: str, prefixes: Sequence[str]) -> None:
    """`JudgeBuildError` when no prefix covers the URL."""
    try:
        place = place_of(url)
        allowed = any(place_of(prefix).covers(place) for prefix in prefixes)
    except ValueError as error:
        raise JudgeBuildError("url", str(error)) from None
    if place.port == "*" or not allowed:
        raise JudgeBuildError("url", f"{url} is not below a prefix in the oracle's INPO_ORACLE_HTTP_JUDGES")


def key_for(url: str, files: Mapping[str, Path]) -> str | None:
    """The bearer key of the longest prefix that covers the URL; None where none does. Read anew at every call.

    `JudgeBuildError` names the file, never its content.
    """
    place = place_of(url)
    covering = [prefix for prefix in files if place_of(prefix).covers(place)]
    if not covering:
        return None
    file = files[max(covering, key=len)]
    try:
        lines = read_private(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"cannot read the key file {file} of INPO_ORACLE_HTTP_KEY_FILES: {type(error).__name__}"
        raise JudgeBuildError("url", reason) from None
    except ValueError as error:
        raise JudgeBuildError("url", f"INPO_ORACLE_HTTP_KEY_FILES: {error}") from None
    key = lines[0].strip() if lines else ""
    if not key or not key.isascii() or not key.isprintable():
        raise JudgeBuildError("url", f"the key file {file} of INPO_ORACLE_HTTP_KEY_FILES holds no line of ASCII")
    return key


def _port(found: re.Match[str]) -> str:
    port = found["port"] or _PORTS[found["scheme"]]
    return port if port == "*" else str(int(port))


def _shown(text: str) -> str:
    """The URL without what may be a password."""
    return re.sub(r"//[^/@]*@", "//…@", text)
