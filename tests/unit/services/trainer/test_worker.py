"""The trainer reads no model from where the operator lets none be read."""

from pathlib import Path

import pytest

from services.trainer.errors import ModelImportError
from services.trainer.worker import TrainHandler
from shared.contracts.plans import BasePlan
from shared.contracts.spec import ModelSpec
from shared.contracts.work import Attempt, WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from tests.support.tiny_training import SETTINGS


def test_a_link_that_leads_elsewhere_by_now_is_not_followed(tmp_path: Path) -> None:
    """It may have led to an allowed model when the run was created."""
    models, private = tmp_path / "models", tmp_path / "private"
    for folder in (models, private):
        folder.mkdir()
    (models / "mine").symlink_to(private)
    store = DirectoryStore(tmp_path / "store")
    item = WorkItem(kind="train", run="run", step=layout.base("run"))
    create_model(store, layout.plan(item.step), BasePlan(run="run", model=ModelSpec(path=str(models / "mine"))))
    handler = TrainHandler(store, SETTINGS.model_copy(update={"allowed_paths": (models,)}))
    with pytest.raises(ModelImportError, match=r"model\.path: .*INPO_ALLOWED_PATHS"):
        handler(item, Attempt(number=1))
    assert store.list(layout.weights("run")) == []
