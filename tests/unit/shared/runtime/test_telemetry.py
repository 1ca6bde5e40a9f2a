"""Logs are JSON lines; spans say when, how long and whether they ended well."""

import json
import subprocess
import sys

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.runtime.telemetry import span
from tests.support.data import ROOT

PROGRAM = """
import structlog
from shared.runtime.telemetry import configure_logging, span
configure_logging("oracle", "INFO")
log = structlog.get_logger("name")
log.debug("unheard")
with structlog.contextvars.bound_contextvars(item="i:1"), span("judge", run="r"):
    log.info("inside", number=1)
try:
    raise ValueError("ünlucky")
except ValueError:
    log.exception("broken")
"""


def observed(name: str) -> float:
    return REGISTRY.get_sample_value("inpo_span_seconds_count", {"name": name}) or 0.0


def test_every_log_line_is_a_json_object_with_service_level_and_item() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    inside, judged, broken = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.stdout == ""
    assert (inside["event"], inside["service"], inside["level"]) == ("inside", "oracle", "info")
    assert (inside["item"], inside["number"]) == ("i:1", 1)
    assert (judged["event"], judged["name"], judged["run"], judged["item"]) == ("span", "judge", "r", "i:1")
    assert judged["end_s"] >= judged["start_s"] > 1.6e9, "Unix time"
    assert "ValueError: ünlucky" in broken["exception"]


def test_a_span_is_observed_once() -> None:
    before = observed("swap")
    with capture_logs() as logs, span("swap", version=3):
        pass
    assert observed("swap") == before + 1
    (line,) = logs
    assert (line["event"], line["name"], line["version"]) == ("span", "swap", 3)
    assert line["duration_s"] == pytest.approx(line["end_s"] - line["start_s"], abs=1e-6)
    assert "error" not in line


def test_a_span_that_raises_is_told_with_its_error_and_the_error_goes_on() -> None:
    with capture_logs() as logs, pytest.raises(KeyError), span("train"):
        raise KeyError("x")
    assert [line["error"] for line in logs] == ["KeyError"]


UNWRITABLE = """
import os, sys, threading
import structlog
from shared.runtime.telemetry import configure_logging, span
configure_logging("oracle", "INFO")
full = os.open("/dev/full", os.O_WRONLY)
os.dup2(full, 2)
class Unspeakable:
    def __repr__(self): raise RuntimeError("cannot be told")
log = structlog.get_logger()
with span("judge"):
    log.info("unheard", value=Unspeakable())
try:
    raise ValueError("unlucky")
except ValueError:
    log.exception("unheard")
print("a library's own line", file=sys.stderr, flush=True)
print("alive", flush=True)
"""


def test_a_full_log_disk_and_an_unspeakable_value_raise_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", UNWRITABLE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_a_line_with_a_value_that_cannot_be_rendered_tells_the_rest() -> None:
    program = UNWRITABLE.replace("os.dup2(full, 2)", "")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    line = json.loads(done.stderr.splitlines()[0])
    assert (line["event"], line["service"], line["unrenderable"]) == ("unheard", "oracle", "RuntimeError")
