"""What is collected is garbage for certain: named by no record, held by no process, and left alone for long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.contracts.records import Intent, PublishedWeights
from shared.store.artifacts import layout
from shared.store.artifacts.store import CorruptArtifactError, DirectoryStore, create_model
from shared.store.weights.collecting import GRACE_S, SETTLED_GRACE_S, Leftover, collect_run, garbage
from shared.store.weights.holding import let_go
from shared.store.weights.store import Candidate, DirectoryWeights
from tests.support.data import ROOT

RUN = "run"
STEP = layout.half_step(RUN, 1, 1)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def begun(store: DirectoryStore, number: int = 1, half: int | None = None) -> Candidate:
    """A candidate that a trainer has begun to write, and holds."""
    candidate = DirectoryWeights(store).begin(RUN, number, half)
    (candidate.path / "model.safetensors").write_bytes(b"half of")
    return candidate


def killed(candidate: Candidate) -> Candidate:
    """Its trainer is gone, and with it the lock."""
    let_go(candidate.path)
    return candidate


def published(store: DirectoryStore, candidate: Candidate, step: str = STEP) -> None:
    version = DirectoryWeights(store).finish(candidate, parent=None, num_parameters=1)
    create_model(store, layout.published(step), PublishedWeights(version=version))


def after(store: DirectoryStore, seconds: float) -> list[str]:
    """What a round finds garbage that long after the last change of any file."""
    last = max(path.lstat().st_mtime for path in store.root.rglob("*"))
    return collect_run(store, RUN, now_s=last + seconds)


def test_a_rule_in_one_line_each() -> None:
    names = {"0001": frozenset({"w/0001-1"})}
    old = GRACE_S + 1

    def kept(key: str, age_s: float, *, held: bool = False) -> bool:
        return garbage([Leftover(key, key.removeprefix("w/").rpartition("-")[0], age_s, held)], names) == []

    assert kept("w/0001-1", old), "a record names it"
    assert kept("w/0001-2", old, held=True), "somebody writes it"
    assert kept("w/0001-2", SETTLED_GRACE_S - 1), "somebody may have been about to publish it"
    assert not kept("w/0001-2", SETTLED_GRACE_S + 1), "another one was published"
    assert kept("w/0002-1", GRACE_S - 1), "its step has no weights yet"
    assert not kept("w/0002-1", old)


def test_a_half_written_candidate_of_a_killed_trainer_goes_once_its_step_has_weights(store: DirectoryStore) -> None:
    half_written = killed(begun(store))
    assert after(store, SETTLED_GRACE_S + 1) == []
    published(store, begun(store))
    assert after(store, SETTLED_GRACE_S - 1) == []
    assert after(store, SETTLED_GRACE_S + 1) == [half_written.key]
    assert not half_written.path.exists()
    assert store.list(layout.weights(RUN)) == ["0001-2"]
    assert after(store, 10 * GRACE_S) == [], "what is published is kept for ever"


def test_a_crash_between_publishing_and_the_record_leaves_a_whole_candidate_that_goes_in_the_end(
    store: DirectoryStore,
) -> None:
    whole = begun(store)
    DirectoryWeights(store).finish(whole, parent=None, num_parameters=1)
    assert after(store, 10 * GRACE_S) == [], "its trainer lives, and may write the record at any moment"
    killed(whole)
    assert after(store, GRACE_S - 1) == []
    published(store, begun(store))
    assert after(store, SETTLED_GRACE_S + 1) == [whole.key]


def test_a_half_steps_weights_and_the_iterates_do_not_stand_for_each_other(store: DirectoryStore) -> None:
    other = killed(begun(store, 1, None))
    published(store, begun(store, 1, 1), layout.half_step(RUN, 1, 1))
    assert after(store, SETTLED_GRACE_S + 1) == []
    assert after(store, GRACE_S + 1) == [other.key]


def test_a_candidate_is_held_until_the_process_that_began_it_ends(store: DirectoryStore) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from shared.store.artifacts.store import DirectoryStore\n"
        "from shared.store.weights.store import DirectoryWeights\n"
        "DirectoryWeights(DirectoryStore(Path(sys.argv[1]))).begin('run', 1)\n"
        "print(flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(store.root)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert after(store, 10 * GRACE_S) == []
        other.kill()
        other.wait()
    assert after(store, GRACE_S + 1) == ["runs/run/weights/0001-1"]


def test_a_record_that_cannot_be_read_keeps_everything(store: DirectoryStore) -> None:
    killed(begun(store))
    killed(begun(store))
    store.create(layout.published(STEP), b"torn")
    with pytest.raises(CorruptArtifactError):
        after(store, 10 * GRACE_S)
    assert len(store.list(layout.weights(RUN))) == 2


def test_scratch_goes_with_its_step_and_a_cancelled_runs_after_a_day(store: DirectoryStore) -> None:
    done, open_step = layout.workspace(RUN, STEP), layout.workspace(RUN, layout.half_step(RUN, 2, 1))
    for key in (done, open_step):
        store.path(key).mkdir(parents=True)
        (store.path(key) / "checkpoint.pt").write_bytes(b"state")
    published(store, begun(store))
    assert after(store, SETTLED_GRACE_S + 1) == [done]
    assert after(store, 10 * GRACE_S) == [], "the run may go on from there"
    create_model(store, layout.intent(RUN, 1), Intent(action="cancel"))
    assert after(store, GRACE_S + 1) == [open_step]


def test_what_cannot_be_removed_whole_is_out_of_the_way_and_collected_later(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_written = killed(begun(store))
    published(store, begun(store))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only"):
        after(store, SETTLED_GRACE_S + 1)
    assert not half_written.path.exists()
