"""Engine and tokenizer by name, and start-up without torch."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.policy.building import build_parts, engine_name, num_loops
from services.policy.settings import PolicySettings
from shared.store.artifacts.store import DirectoryStore
from tests.support.data import ROOT

FAKE_ENGINE = "tests.support.fake_engine:FakeEngine"
FAKE_TOKENIZER = "tests.support.fake_engine:FakeTokenizer"


def test_engine_and_tokenizer_are_built_by_name(tmp_path: Path) -> None:
    settings = PolicySettings(engine=FAKE_ENGINE, tokenizer=FAKE_TOKENIZER)
    parts = build_parts(settings, DirectoryStore(tmp_path))
    assert callable(parts.handler)


@pytest.mark.parametrize(
    "name", ["nowhere:Engine", "tests.support.fake_engine:Nothing", "tests.support.fake_engine", ":x"]
)
def test_a_wrong_name_is_an_error_that_names_the_setting(tmp_path: Path, name: str) -> None:
    settings = PolicySettings(engine=name, tokenizer=FAKE_TOKENIZER)
    with pytest.raises(ValueError, match=f"engine: '{name}'"):
        build_parts(settings, DirectoryStore(tmp_path))


def test_engines_have_short_names_and_their_number_of_loops() -> None:
    """A server batches by itself and wants several shards at once; in this process one loop keeps the cores busy."""
    vllm, own = PolicySettings(engine="vllm"), PolicySettings(engine="transformers")
    assert (engine_name(vllm), num_loops(vllm)) == ("services.policy.engines.vllm.engine:VllmEngine", 4)
    assert (engine_name(own), num_loops(own)) == ("services.policy.engines.transformers.engine:TransformersEngine", 1)
    assert engine_name(PolicySettings(engine=FAKE_ENGINE)) == FAKE_ENGINE
    assert num_loops(PolicySettings(engine="transformers", concurrency=3)) == 3


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPO_ENGINE", FAKE_ENGINE)
    monkeypatch.setenv("INPO_MAX_BATCH_ROWS", "16")
    settings = PolicySettings()
    assert (settings.engine, settings.max_batch_rows) == (FAKE_ENGINE, 16)
    monkeypatch.setenv("INPO_DTYPE", "int8")
    with pytest.raises(ValidationError, match="dtype"):
        PolicySettings()


def test_the_worker_starts_without_torch_until_an_engine_needs_it() -> None:
    """Everything that the entry point imports, in a process of its own; transformers would bring torch with it."""
    code = (
        "import sys, services.policy.__main__, services.policy.building\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
