"""Builders of run specifications."""

from pathlib import Path
from typing import Any

from shared.contracts.spec import RunSpec


def a_spec(tmp_path: Path, **changes: Any) -> RunSpec:
    """A small valid INPO run over a prompt file of 12 rows and a model directory that looks like one."""
    return RunSpec.model_validate(a_spec_body(tmp_path, **changes))


def a_spec_body(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """The JSON body of `a_spec`; keyword arguments replace top-level fields."""
    prompts = tmp_path / "prompts.jsonl"
    if not prompts.exists():
        prompts.write_text("".join(f'{{"prompt": "question number {number}?"}}\n' for number in range(12)))
    model = tmp_path / "model"
    if not model.exists():
        model.mkdir()
        (model / "config.json").write_text("{}")
        (model / "model.safetensors").write_bytes(b"")
    body: dict[str, Any] = {
        "name": "small",
        "model": {"path": str(model)},
        "prompts": {"sets": [{"path": str(prompts)}], "num_per_iteration": 6},
        "sampling": {"num_responses": 4, "max_new_tokens": 8},
        "oracle": {"judge": {"kind": "rules", "entry_point": "tests.support.rules:longer_is_better"}},
        "algorithm": {"name": "inpo", "eta": 0.3, "tau": 0.1},
        "evaluation": {"num_prompts": 4},
        "iterations": 3,
        "shard_size": 2,
        "seed": 7,
    }
    return body | changes
