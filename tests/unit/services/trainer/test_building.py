"""The trainer's handler by its entry point."""

from pathlib import Path

import pytest

from services.trainer.building import build_handler
from services.trainer.settings import TrainerSettings
from services.trainer.worker import TrainHandler
from shared.store.artifacts.store import DirectoryStore
from tests.support.stub_trainer import StubTrainer


def test_the_default_is_the_real_trainer(tmp_path: Path) -> None:
    assert isinstance(build_handler(TrainerSettings(trainer_device="cpu"), DirectoryStore(tmp_path)), TrainHandler)


def test_a_stub_can_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPO_TRAINER_BACKEND", "tests.support.stub_trainer:StubTrainer")
    assert isinstance(build_handler(TrainerSettings(), DirectoryStore(tmp_path)), StubTrainer)


@pytest.mark.parametrize("name", ["", "no.such.module:x", "services.trainer.worker:NoHandler", "services.trainer"])
def test_a_wrong_name_is_an_error_that_names_the_setting(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="trainer_backend"):
        build_handler(TrainerSettings(trainer_backend=name), DirectoryStore(tmp_path))


def test_a_strategy_of_several_processes_leaves_the_device_to_them(tmp_path: Path) -> None:
    """Built for a GPU that is not there: the worker does not touch it."""
    settings = TrainerSettings(trainer_strategy="fsdp2", trainer_num_processes=2, trainer_device="cuda")
    assert isinstance(build_handler(settings, DirectoryStore(tmp_path)), TrainHandler)
