"""What the user's environment says still means the same to services that start elsewhere."""

import json
import os
from pathlib import Path

import pytest

from services.cli.launcher.surroundings import services_environment


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_paths_mean_the_same_in_every_folder(tmp_path: Path) -> None:
    given = {
        "INPO_API_KEY_FILE": "keys/api",
        "INPO_DEVICE_LOCK": "/run/lock",
        "inpo_vllm_api_key_file": "key",
        "INPO_SERVED_MODEL": "",
        "INPO_ALLOWED_PATHS": '["models", "/data"]',
        "INPO_ORACLE_HTTP_KEY_FILES": '{"https://a.example": "a.key"}',
        "HF_HOME": "hub",
    }
    found = services_environment(given)
    assert found["INPO_API_KEY_FILE"] == str(tmp_path / "keys/api")
    assert found["INPO_DEVICE_LOCK"] == "/run/lock"
    assert found["inpo_vllm_api_key_file"] == str(tmp_path / "key")
    assert found["INPO_SERVED_MODEL"] == ""
    assert json.loads(found["INPO_ALLOWED_PATHS"]) == [str(tmp_path / "models"), "/data"]
    assert json.loads(found["INPO_ORACLE_HTTP_KEY_FILES"]) == {"https://a.example": str(tmp_path / "a.key")}
    assert found["HF_HOME"] == str(tmp_path / "hub")


def test_what_is_no_path_stays_as_it_is() -> None:
    given = {"INPO_ENGINE": "vllm", "INPO_REDIS_URL": "redis://here/0", "INPO_ALLOWED_PATHS": "[broken", "PATH": "bin"}
    assert services_environment(given) == {**given, "PYTHONSAFEPATH": "1"}


def test_python_imports_nothing_from_the_folder_that_the_user_happens_to_stand_in(tmp_path: Path) -> None:
    """An empty entry is what `PYTHONPATH=$PYTHONPATH:/mine` leaves behind; nobody means the current folder by it."""
    found = services_environment({"PYTHONPATH": os.pathsep.join(["", "/mine", "rules", "."])})
    assert found["PYTHONPATH"].split(os.pathsep) == ["/mine", str(tmp_path / "rules"), str(tmp_path)]
    assert found["PYTHONSAFEPATH"] == "1"
    assert services_environment({"PYTHONPATH": ""})["PYTHONPATH"] == ""
