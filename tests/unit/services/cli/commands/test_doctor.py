"""`inpo doctor` as a person types it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.cli.doctor import examination, machine
from services.cli.launcher.up import Whereabouts
from services.cli.main import app
from shared.runtime.key_files import write_private
from tests.support.fake_machine import EVERY_PACKAGE, FakeMachine

PROGRAMS = {"import json, torch": '{"version": "2.13.0", "gpus": []}', "redis-server --version": "Redis server v=7.4.1"}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("INPO_URL", "INPO_STORE_DIR", "INPO_REDIS_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INPO_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


def doctor(monkeypatch: pytest.MonkeyPatch, found: FakeMachine, *arguments: str) -> Result:
    monkeypatch.setattr(machine, "Machine", lambda: found)
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def named(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    [found] = [row for row in rows if row["name"] == name]
    return found


def test_a_machine_with_what_is_needed_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    result = doctor(monkeypatch, FakeMachine(programs=PROGRAMS))
    assert result.exit_code == 0
    assert result.output.endswith("everything that INPO needs is here\n")


def test_what_is_missing_is_named_and_ends_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {name: version for name, version in EVERY_PACKAGE.items() if name != "pyarrow"}
    result = doctor(monkeypatch, FakeMachine(programs=PROGRAMS, packages=packages, server=None))
    assert result.exit_code == 1
    assert result.output.endswith("missing: pyarrow, redis-server\n")


def test_json_holds_the_rows_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    result = doctor(monkeypatch, FakeMachine(programs=PROGRAMS, server=None), "--json")
    rows: list[dict[str, Any]] = json.loads(result.output)
    assert result.exit_code == 1
    assert named(rows, "torch") == {"name": "torch", "found": "2.13.0", "state": "ok", "remedy": ""}
    assert named(rows, "redis-server")["state"] == "missing"


def test_a_system_that_runs_is_looked_at_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url, redis, store = "http://127.0.0.1:8123", "redis://127.0.0.1:6400/0", tmp_path / "elsewhere"
    where = Whereabouts(url=url, oracle_url=url, policy_url=url, redis_url=redis, store_dir=store)
    write_private(tmp_path / "up.json", where.model_dump_json())
    rows = json.loads(doctor(monkeypatch, FakeMachine(programs=PROGRAMS, redis="7.4.1"), "--json").output)
    assert named(rows, "redis-server")["found"] == f"7.4.1 at {redis}"
    assert named(rows, "controller")["found"] == f"none at {url}"
    assert named(rows, "store")["found"].startswith(str(store))


def test_all_rows_come_in_the_order_of_the_checks() -> None:
    rows = examination.examine(FakeMachine(programs=PROGRAMS), examination.Places("http://127.0.0.1:1", Path("s")))
    assert [row.name for row in rows][:3] == ["inpo", "python", "platform"]
    assert rows[-1].name == "controller"
