"""Items, histories and events as JSON in Redis. What another release wrote is told from what is broken."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import structlog
from pydantic import ValidationError

from shared.contracts.work import Attempt, Event, Kind, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.versions import VERSION, WRITTEN_BY, of_another_release

log = structlog.get_logger(__name__)

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Foreign:
    """An item of another release, which it understands: handed back, never buried."""

    id: str
    reason: str


def payload_of(item: WorkItem) -> str:
    """The item with the release that asks for it."""
    return json.dumps({WRITTEN_BY: VERSION, **item.model_dump(mode="json")})


def item_of(kind: Kind, fields: Fields) -> WorkItem | Foreign | str:
    """The item of a stream entry, or whose it is, or what is wrong with the entry."""
    try:
        item = WorkItem.model_validate(_unsigned(fields["item"]))
    except ValidationError as error:
        identity, reason = fields.get("id", ""), of_another_release(fields["item"], error)
        return str(error) if reason is None or not run_of(identity) else Foreign(identity, f"{identity} {reason}")
    except (KeyError, ValueError) as error:
        return str(error)
    if item.kind != kind or item.id != fields.get("id") or not item.step.startswith(f"{layout.run(item.run)}/"):
        return f"kind, id or step do not belong together: {fields}"
    return item


def history_of(text: str | None) -> Attempt:
    """What the queue knows of an item. What another release adds is passed over, and what is torn is begun anew."""
    if text is None:
        return Attempt(number=1)
    try:
        stored = _unsigned(text)
        return Attempt.model_validate({name: stored[name] for name in stored.keys() & Attempt.model_fields.keys()})
    except ValueError as error:
        log.error("history_undecodable", error=str(error))
        return Attempt(number=1)


def event_of(identity: str, fields: Fields) -> Event | None:
    """The event of a stream entry; the log names one that cannot be read."""
    try:
        return Event.model_validate_json(fields["event"])
    except (ValidationError, KeyError) as error:
        log.error("event_undecodable", event_id=identity, error=str(error))
        return None


def run_of(identity: str) -> str:
    """The run that an item's id names; empty where it names none."""
    return identity.split("/")[1] if identity.startswith("runs/") else ""


def _unsigned(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"not an object: {text[:100]}")
    found = cast(dict[str, Any], value)
    return {name: found[name] for name in found if name != WRITTEN_BY}
