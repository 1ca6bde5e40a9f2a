"""Who may ask for what: bearer keys, their scopes, and the scope that each route needs.

A key file, which nobody else may read, holds a key a line; blank lines and lines that begin with `#` say nothing:

```
KEY                     all scopes
read KEY                looks, changes nothing
read,operate KEY        also creates, pauses, promotes
judge KEY               only asks judges, and answers for them
```
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from shared.runtime.key_files import read_private

Scope = Literal["read", "operate", "judge"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
OPEN_PATHS = frozenset({"/healthz", "/readyz"})

# Everything else is `read` for methods that change nothing and `operate` for the rest: a new route is never open.
_BY_PREFIX: tuple[tuple[str, Scope], ...] = (
    ("/v1/judgments", "judge"),
    ("/v1/comparisons", "judge"),
    ("/v1/completions", "read"),
)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def scope_of(method: str, path: str) -> Scope | None:
    """The scope that a request, or a route's template, needs; None for health and readiness, which are open."""
    if path in OPEN_PATHS:
        return None
    for prefix, scope in _BY_PREFIX:
        if path.startswith(prefix):
            return scope
    return "read" if method in SAFE_METHODS else "operate"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows. `name` says where the key stands, never what it is."""

    name: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Key:
    """A line of a key file. Holds the secret: for clients; servers keep a `Keyring`."""

    secret: str
    scopes: frozenset[Scope]
    line: int


class Keyring:
    """Hashed keys with their grants."""

    def __init__(self, keys: Sequence[Key], name: str) -> None:
        self._grants = [(_digest(key.secret), Grant(f"{name}, line {key.line}", key.scopes)) for key in keys]

    def grant(self, authorization: str) -> Grant | None:
        """What an `Authorization` header allows; None for no key or a wrong one, in time that tells nothing."""
        scheme, _, key = authorization.partition(" ")
        given = _digest(key.strip())
        found: Grant | None = None
        for digest, grant in self._grants:  # all of them, whichever matches
            if hmac.compare_digest(given, digest):
                found = grant
        return found if scheme.lower() == "bearer" else None


def read_keys(path: Path) -> list[Key]:
    """The keys of a key file, at least one. ValueError where others can read it, too.

    An error names the line that is wrong, never what stands in it.
    """
    source = f"INPO_API_KEY_FILE ({path})"
    try:
        text = read_private(path)
    except UnicodeDecodeError:
        raise ValueError(f"INPO_API_KEY_FILE: cannot read {path}: it is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"INPO_API_KEY_FILE: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"INPO_API_KEY_FILE: {error}") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    keys = [_key(line, number, source) for number, line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"{source} holds no usable key: a line `KEY` or `scope[,scope] KEY` is expected")
    seen: dict[str, int] = {}
    for key in keys:
        if key.secret in seen:
            raise ValueError(f"{source}, line {key.line}: the same key as in line {seen[key.secret]}; give one of them")
        seen[key.secret] = key.line
    return keys


def single_key(secret: str, source: str) -> Key:
    """A key from a variable: all scopes. ValueError names the source when it is no key."""
    return _key(secret.strip(), 1, source)


def _key(line: str, number: int, source: str) -> Key:
    *before, secret = line.split() or [""]
    if len(before) > 1 or not secret or not line.isascii() or not line.isprintable():
        raise ValueError(
            f"{source}, line {number}: no usable key; `KEY` or `scope[,scope] KEY` is expected, a key being printable "
            "ASCII without spaces"
        )
    if not before and set(secret.split(",")) <= set(SCOPES):
        raise ValueError(f"{source}, line {number}: scopes without a key behind them")
    names = before[0].split(",") if before else SCOPES
    if not set(names) <= set(SCOPES):
        # Not the name itself: it may be the first half of a key with a space in it.
        raise ValueError(f"{source}, line {number}: an unknown scope; there are {', '.join(SCOPES)}")
    return Key(secret, frozenset(cast(Sequence[Scope], names)), number)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", errors="surrogateescape")).digest()
