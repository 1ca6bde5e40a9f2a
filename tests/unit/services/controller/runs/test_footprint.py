# safetensors' functions are only partly typed.
# pyright: reportUnknownVariableType=false
"""What a run needs of the disk is told before it begins."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from services.controller.runs.footprint import footprint, shortage
from tests.support.specs import a_spec

NUM_PARAMETERS = 1000


def a_model(tmp_path: Path) -> int:
    """In bfloat16's two bytes a parameter; the size of its file."""
    file = tmp_path / "model" / "model.safetensors"
    save_file({"weight": np.zeros((10, 100), dtype=np.float16)}, file)
    return file.stat().st_size


@pytest.mark.parametrize(("algorithm", "num_halves"), [("inpo", 1), ("egpo", 2)])
def test_weights_of_every_half_step_are_counted(tmp_path: Path, algorithm: str, num_halves: int) -> None:
    spec = a_spec(tmp_path, algorithm={"name": algorithm, "eta": 0.6, "tau": 0.1}, iterations=3)
    size = a_model(tmp_path)
    found = footprint(spec, 12)
    assert found is not None
    assert found.num_versions == 1 + 3 * num_halves
    assert found.weights == found.num_versions * size
    assert found.scratch == NUM_PARAMETERS * 4 * 3 * 2
    assert found.texts > 0


def test_a_model_that_is_elsewhere_is_not_guessed_at(tmp_path: Path) -> None:
    assert footprint(a_spec(tmp_path, model={"path": "org/name"}), 12) is None
    assert footprint(a_spec(tmp_path), 12) is None, "its file is no safetensors file"


def test_a_disk_that_is_too_small_is_warned_about_with_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    spec = a_spec(tmp_path)
    a_model(tmp_path)
    found = footprint(spec, 12)
    assert found is not None
    assert shortage(found, found.total) == []
    (warning,) = shortage(found, found.total - 1)
    assert warning.field == "iterations"
    assert "4 versions of the weights" in warning.message
    assert "are free: make room" in warning.message
    assert shortage(None, 0) == []
