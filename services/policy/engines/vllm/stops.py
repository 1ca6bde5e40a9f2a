"""Which tokens end a response, as the model's own files say."""

import json
from pathlib import Path
from typing import Any, cast


def stop_ids_of(directory: Path) -> list[int]:
    """EOS ids of generation_config.json and config.json together, ascending; empty when neither names one."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        config = _read(directory / name)
        ids = config.get("text_config", config).get("eos_token_id")
        found.update([ids] if isinstance(ids, int) else cast(list[int], ids or []))
    return sorted(found)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_bytes()) if file.exists() else {}
