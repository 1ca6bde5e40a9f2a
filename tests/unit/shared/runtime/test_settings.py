"""Settings come from INPO_… variables, and a wrong value names its field."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.runtime.settings import Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INPO_")]:
        monkeypatch.delenv(name)


def test_defaults_are_a_machine_of_ones_own() -> None:
    settings = Settings()
    assert settings.store_dir == Path(".inpo/store")
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert (settings.lease_s, settings.deadline_s) == (30.0, 3600.0)


def test_variables_set_fields_and_those_of_other_services_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPO_LEASE_S", "3")
    monkeypatch.setenv("INPO_STORE_DIR", "/srv/store")
    monkeypatch.setenv("INPO_SOMETHING_ELSE", "x")
    assert (Settings().lease_s, Settings().store_dir) == (3.0, Path("/srv/store"))


@pytest.mark.parametrize(
    ("name", "value"), [("lease_s", "0"), ("lease_s", "soon"), ("deadline_s", "-1"), ("log_level", "loud")]
)
def test_a_wrong_value_names_its_field(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"INPO_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_every_field_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_consumer_is_named_after_machine_service_and_process() -> None:
    assert Settings().consumer("oracle").endswith(f"-oracle-{os.getpid()}")


def test_a_password_of_redis_is_in_no_printed_settings() -> None:
    assert "s3cret" not in repr(Settings(redis_url="redis://:s3cret@cache:6379/0"))
