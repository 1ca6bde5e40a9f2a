"""What creating a run of a million prompts costs: seconds, and the most memory that the process ever held."""

import json
import resource
import tempfile
import time
from pathlib import Path

from rich.console import Console

from services.controller.runs.repository import RunRepository
from shared.contracts.spec import RunSpec
from shared.store.artifacts.store import DirectoryStore

NUM_PROMPTS = 1_000_000
GOAL_S = 10.0
GOAL_MIB = 500.0


def run(console: Console) -> None:
    """Create the run, and say which goals are met."""
    with tempfile.TemporaryDirectory() as folder:
        spec = _spec(Path(folder))
        repository = RunRepository(DirectoryStore(Path(folder) / "store"))
        began, cpu_began = time.monotonic(), time.process_time()
        record = repository.create(spec)
        taken_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
    held_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    what = f"creating a run of {record.num_prompts:,} prompts"
    console.print(f"{what}: {taken_s:.1f} s ({cpu_s:.1f} s of a core), goal {GOAL_S:g}: {_met(taken_s, GOAL_S)}")
    console.print(f"{what}: {held_mib:,.0f} MiB at most, goal {GOAL_MIB:g}: {_met(held_mib, GOAL_MIB)}")


def _met(measured: float, goal: float) -> str:
    return "met" if measured <= goal else "missed"


def _spec(folder: Path) -> RunSpec:
    prompts, model = folder / "prompts.jsonl", folder / "model"
    with prompts.open("w") as file:
        for row in range(NUM_PROMPTS):
            file.write(json.dumps({"prompt": f"question number {row}?"}) + "\n")
    model.mkdir()
    (model / "config.json").write_text("{}")
    return RunSpec.model_validate(
        {
            "name": "million",
            "model": {"path": str(model)},
            "prompts": {"sets": [{"path": str(prompts)}], "num_per_iteration": 1_000, "format": "text"},
            "oracle": {"judge": {"kind": "rules", "entry_point": "services.oracle.rules.words:known_word_share"}},
            "algorithm": {"name": "inpo", "eta": 0.3, "tau": 0.1},
            "evaluation": {"num_prompts": 64},
        }
    )
