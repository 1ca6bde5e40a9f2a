"""Leftovers of killed writers and questions that are over leave the store; artifacts never do."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.store.artifacts import layout
from shared.store.artifacts.collecting import (
    COMPARISON_GRACE_S,
    TEMPORARY_GRACE_S,
    collect_comparisons,
    collect_temporaries,
    is_abandoned,
    is_temporary,
)
from shared.store.artifacts.store import DirectoryStore
from tests.support.data import ROOT

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from shared.store.artifacts.store import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]))
os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store.create("runs/r/run.json", b"whole, but not linked yet")
"""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def now(store: DirectoryStore) -> float:
    return max(path.lstat().st_mtime for path in store.root.rglob("*"))


def test_what_a_killed_writer_left_goes_after_an_hour(store: DirectoryStore) -> None:
    store.create("runs/r/prompts.parquet", b"artifact")
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(store.root)], cwd=ROOT, check=False)
    assert collect_temporaries(store, now_s=now(store) + TEMPORARY_GRACE_S - 1) == []
    (gone,) = collect_temporaries(store, now_s=now(store) + TEMPORARY_GRACE_S + 1)
    assert gone.startswith("runs/r/.run.json.")
    assert [path.name for path in store.path("runs/r").iterdir()] == ["prompts.parquet"]


def test_a_folder_on_its_way_out_goes_with_what_is_in_it(store: DirectoryStore) -> None:
    folder = store.root / f".removed-{'0' * 16}"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "model.safetensors").write_bytes(b"weights")
    assert collect_temporaries(store, now_s=now(store) + TEMPORARY_GRACE_S + 1) == [folder.name]
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["run.json", ".hidden", ".gitkeep", ".run.json.12.zzzzzzzz", "run.json.12.0123abcd", ".nfs0000000001"]
)
def test_other_names_are_nobodys_leftovers(name: str) -> None:
    assert not is_temporary(name, 10 * TEMPORARY_GRACE_S)


def test_a_question_is_kept_while_anybody_may_ask_or_answer_it(store: DirectoryStore) -> None:
    answered, open_question = "aa" * 32, "bb" * 32
    for digest in (answered, open_question):
        store.create(layout.comparison(digest), b"{}")
    store.create(layout.verdict(answered), b"{}")
    late = now(store) + COMPARISON_GRACE_S + 1
    assert collect_comparisons(store, awaited=True, now_s=late - 2) == []
    assert collect_comparisons(store, awaited=True, now_s=late) == [layout.comparison(answered)]
    assert collect_comparisons(store, awaited=False, now_s=late) == [layout.comparison(open_question)]
    assert store.exists(layout.verdict(answered))


def test_a_young_question_is_kept_in_any_case() -> None:
    assert not is_abandoned(COMPARISON_GRACE_S - 1, answered=True, awaited=False)
