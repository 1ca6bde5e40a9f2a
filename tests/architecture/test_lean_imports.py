"""What a process loads at its start: the controller, the oracle's API and the policy worker run without torch."""

import json
import subprocess
import sys

import pytest

HEAVY = ("accelerate", "deepspeed", "torch", "transformers", "vllm")
PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""

LEAN = {
    "controller": ["services.controller.api.app", "services.controller.__main__"],
    "oracle": [
        "services.oracle.api.app",
        "services.oracle.worker",
        "services.oracle.__main__",
        "services.oracle.judges.http.judge",
        "services.oracle.judges.pull",
    ],
    "policy": ["services.policy.api.app", "services.policy.worker", "services.policy.__main__"],
    "launcher": [
        "services.cli.main",
        "services.cli.launcher.up",
        "services.cli.doctor.examination",
        "services.cli.views.watching",
        "services.cli.specs.validating",
    ],
    "shared": [
        "shared.contracts.spec",
        "shared.store.queue.redis_queue",
        "shared.store.queue.memory_queue",
        "shared.runtime.worker.loop",
    ],
}


def _loaded(modules: list[str]) -> set[str]:
    probe = subprocess.run([sys.executable, "-c", PROBE, *modules], capture_output=True, text=True, check=False)
    assert probe.returncode == 0, probe.stderr
    names: list[str] = json.loads(probe.stdout.splitlines()[-1])
    return set(names)


@pytest.mark.parametrize("part", sorted(LEAN))
def test_no_model_library_is_loaded_at_the_start_of_the(part: str) -> None:
    loaded = _loaded(LEAN[part])
    assert set(LEAN[part]) <= loaded
    assert not [name for name in HEAVY if name in loaded]


def test_help_loads_no_service_and_no_table() -> None:
    """`inpo --help` answers at once because only typer is loaded."""
    loaded = _loaded(["services.cli.main"])
    slow = ("fastapi", "httpx", "numpy", "psutil", "pyarrow", "pydantic", "redis", "services.controller", "yaml")
    assert not [name for name in slow if name in loaded]
