"""The real system with a stub engine and a stub trainer: runs take seconds, and equal inputs give equal bytes."""

import json
import secrets
from pathlib import Path
from typing import Any

import httpx

from services.cli.launcher.up import RunningSystem, UpOptions
from tests.support.specs import a_spec_body
from tests.support.waiting import wait_until

RULE = {"judge": {"kind": "rules", "entry_point": "tests.support.rules:longer_is_better"}}
ENVIRONMENT = {
    "INPO_ORACLE_ENTRY_POINTS": '["tests.support."]',
    "INPO_ENGINE": "tests.support.stub_policy:StubEngine",
    "INPO_TOKENIZER": "tests.support.stub_policy:StubTokenizer",
    "INPO_TRAINER_BACKEND": "tests.support.stub_trainer:StubTrainer",
}


def stub_system(lease_s: float, **environment: str) -> UpOptions:
    """Options of `running_system`."""
    return UpOptions(lease_s=lease_s, env=ENVIRONMENT | environment)


def run_body(
    folder: Path, poison: str | None = None, oracle: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """The specification of a run of 3 iterations with 4 shards of one prompt each.

    `poison` replaces every prompt of the first iteration's last shard, `oracle` the rule that answers,
    `changes` other top-level fields of the specification.
    """
    prompts = [f"question number {number}?" for number in range(4)]
    if poison is not None:
        prompts[3] = poison
    file = folder / "few.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    held_out = folder / "held-out.jsonl"
    held_out.write_text('{"prompt": "held out?"}\n')
    return a_spec_body(
        folder,
        prompts={"sets": [{"path": str(file)}]},
        oracle=oracle or RULE,
        shard_size=1,
        evaluation={"prompts": {"path": str(held_out)}, "num_prompts": 1},
        **changes,
    )


def create_run(
    system: RunningSystem,
    folder: Path,
    poison: str | None = None,
    oracle: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A run of `run_body`; its id. Waits for a controller that is coming back, or whose storage refuses for a while."""
    body = run_body(folder, poison, oracle, **changes)
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    created: dict[str, Any] = {}

    def accepted() -> bool:
        try:
            response = httpx.post(f"{system.url}/v1/runs", json=body, headers=headers, trust_env=False)
        except httpx.TransportError:
            return False
        if response.status_code in (409, 503, 507):
            return False
        assert response.status_code == 201, response.text
        created.update(response.json())
        return True

    wait_until(accepted, 60.0, "the controller to accept a run")
    return created["id"]


def ended_run(system: RunningSystem, run: str, timeout_s: float = 120.0) -> dict[str, Any]:
    """The run's view once it has succeeded, failed or been cancelled."""
    view: dict[str, Any] = {}

    def ended() -> bool:
        try:
            view.update(httpx.get(f"{system.url}/v1/runs/{run}", trust_env=False).json())
        except httpx.TransportError:
            return False
        return view["state"] in ("succeeded", "failed", "cancelled")

    wait_until(ended, timeout_s, f"run {run} to end")
    return view
