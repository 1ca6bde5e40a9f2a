"""Ids and dates of runs: a name and a time for people, 128 random bits for uniqueness."""

import re
from contextlib import suppress
from datetime import UTC, datetime

from shared.contracts.spec import RunSpec
from shared.store.artifacts.requests import RequestIdentity

ID_BYTES = 128 // 8

_FIRST = "1970-01-01T00:00:00+00:00"
_DATED = re.compile(r"-(\d{8})-(\d{6})-[0-9a-f]+$")


def run_id(name: str, at_s: float, token: str) -> str:
    """`stories-20260301-120000-5f3a…`: for people a name and a time, for uniqueness 128 random bits."""
    return f"{name}-{datetime.fromtimestamp(at_s, UTC):%Y%m%d-%H%M%S}-{token}"


def id_of_request(spec: RunSpec, identity: RequestIdentity) -> str:
    """The same for every repetition of a request, and for nobody else's."""
    return run_id(spec.name, identity.at_s, identity.digest[: 2 * ID_BYTES])


def date_in(run: str) -> str:
    """The time in a run's id, in the form of `created_at`; before all others without one."""
    found = _DATED.search(run)
    with suppress(ValueError):
        return datetime.strptime(f"{found[1]}{found[2]}+0000", "%Y%m%d%H%M%S%z").isoformat() if found else _FIRST
    return _FIRST


def parsed_date(created_at: str | None) -> datetime | None:
    """A record's date, None where it is none: nobody checks what an older release wrote."""
    with suppress(ValueError):
        parsed = datetime.fromisoformat(created_at) if created_at is not None else None
        return None if parsed is None or parsed.tzinfo is None else parsed
    return None


def name_in(run: str) -> str:
    """The name in a run's id."""
    return _DATED.sub("", run)
