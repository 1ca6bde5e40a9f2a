"""Real weights written by the real libraries to a disk that fills up at any of their writes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tiny_models
from tests.support.data import ROOT
from tests.support.faulty_storage import FaultyStorage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMPORTER = """
import sys
from pathlib import Path
import torch
from services.trainer.weights.importing import import_model
from services.trainer.weights.publishing import announce
from shared.contracts.records import PublishedWeights
from shared.contracts.spec import ModelSpec
from shared.store.artifacts.refusals import refusal
from shared.store.artifacts.store import DirectoryStore
store, model = DirectoryStore(Path(sys.argv[1])), ModelSpec(path=sys.argv[2])
for step in sys.stdin:
    try:
        announce(store, step.strip(), PublishedWeights(version=import_model(store, "run", model, torch.device("cpu"))))
        print("published", flush=True)
    except Exception as error:
        refused = refusal(error, store.root)
        print(type(error).__name__, "unknown" if refused is None else refused.kind, flush=True)
"""
NUM_SAMPLES = 5


def test_a_disk_that_fills_up_at_any_write_is_waited_for_and_leaves_no_candidate(tmp_path: Path) -> None:
    """Of all writes of an import a sample is refused, with all after it; INPO_TEST_EVERY_WRITE=1 takes each."""
    model = tiny_models.make_model(tmp_path / "model", seed=1)
    faulty, store = FaultyStorage(tmp_path), tmp_path / "store"
    command = [sys.executable, "-c", IMPORTER, str(store), str(model)]
    environment = os.environ | faulty.environment
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def outcome(step: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            print(step, file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        # The first makes folders that all others find there.
        assert outcome("first/base") == "published"
        faulty.fail(store, 0)
        assert outcome("calm/base") == "published"
        num_calls, calm = faulty.calls(), {path.name for path in (store / "runs/run/weights").iterdir()}
        every = os.environ.get("INPO_TEST_EVERY_WRITE") == "1"
        kinds: set[str] = set()
        # The very last calls publish: after them the version may be named, and stays.
        for number in range(0, num_calls - 1, 1 if every else num_calls // NUM_SAMPLES):
            faulty.fail(store, errno.ENOSPC, after=number)
            error, kind = outcome(f"full-{number}/base").split()
            faulty.heal()
            assert kind == "full", f"call {number}: {error}"
            kinds.add(error)
            assert {path.name for path in (store / "runs/run/weights").iterdir()} == calm, f"call {number}: {error}"
        assert {"OSError", "SafetensorError"} <= kinds
        assert outcome("after/base") == "published"
        assert process.stdin is not None
        process.stdin.close()
