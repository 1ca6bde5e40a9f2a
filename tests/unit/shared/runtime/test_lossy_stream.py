"""Reporting a fault is no fault: what cannot be written is lost, counted, and told of as soon as that is possible."""

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from shared.runtime.lossy_stream import LossyStream


def lost() -> float:
    return REGISTRY.get_sample_value("inpo_log_lines_lost_total") or 0.0


@contextmanager
def pointing_at(descriptor: int, target: str) -> Generator[None]:
    """A disk that is full for a while: whatever is written to the descriptor meanwhile goes to `target`."""
    kept, other = os.dup(descriptor), os.open(target, os.O_WRONLY)
    os.dup2(other, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(other)


@pytest.fixture
def log_file(tmp_path: Path) -> Generator[tuple[int, Path]]:
    path = tmp_path / "service.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield descriptor, path
    os.close(descriptor)


def test_lines_lost_to_a_full_disk_are_counted_and_told_of_when_it_can_be_written_again(
    log_file: tuple[int, Path],
) -> None:
    descriptor, path = log_file
    stream, before = LossyStream(descriptor, "oracle"), lost()
    print("first", file=stream)
    with pointing_at(descriptor, "/dev/full"):
        for number in range(5):
            print("unheard", number, file=stream, flush=True)
    print("last", file=stream)
    print("and on", file=stream)
    first, obituary, last, on = path.read_text().splitlines()
    assert (first, last, on) == ("first", "last", "and on")
    told = json.loads(obituary)
    assert (told["event"], told["num"], told["service"]) == ("log_lines_lost", 5, "oracle")
    assert "No space left on device" in told["reason"]
    assert lost() - before == 5


def test_a_closed_pipe_and_a_closed_descriptor_are_no_errors() -> None:
    reader, writer = os.pipe()
    stream, before = LossyStream(writer, "oracle"), lost()
    os.close(reader)
    print("nobody listens", file=stream, flush=True)
    os.close(writer)
    print("nothing is there", file=stream, flush=True)
    assert lost() - before == 2


def test_a_line_that_was_cut_off_is_ended_before_the_next_one(
    log_file: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor, path = log_file
    stream = LossyStream(descriptor, "oracle")
    write = os.write

    def short(file: int, data: bytes) -> int:
        """The last four bytes of a disk."""
        if path.stat().st_size == 4:
            raise OSError(28, "No space left on device")
        return write(file, data[:4])

    monkeypatch.setattr(os, "write", short)
    print('{"event": "cut"}', file=stream)
    monkeypatch.undo()
    print('{"event": "next"}', file=stream)
    cut, obituary, following = path.read_text().splitlines()
    assert cut == '{"ev'
    assert json.loads(obituary)["num"] == 1
    assert json.loads(following) == {"event": "next"}


def test_a_line_printed_in_parts_is_written_whole(log_file: tuple[int, Path]) -> None:
    descriptor, path = log_file
    stream = LossyStream(descriptor, "oracle")
    stream.write("one ")
    assert path.read_text() == ""
    stream.write("line\nand a be")
    assert path.read_text() == "one line\n"
    stream.flush()
    assert path.read_text() == "one line\nand a be"


def test_a_stream_without_a_descriptor_stays_as_it_is() -> None:
    class Captured:
        def flush(self) -> None:
            raise ValueError("I/O operation on closed file")

    captured = Captured()
    assert LossyStream.around(captured, "oracle") is captured  # pyright: ignore[reportArgumentType]
    assert LossyStream.around(sys.__stderr__ or sys.stderr, "oracle").fileno() == 2
