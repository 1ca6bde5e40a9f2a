"""Which of several ranks' ends is told as the reason, and how."""

import errno
from pathlib import Path

import pytest

from services.trainer.errors import GroupFailedError, WrongPolicyError
from services.trainer.processes.assignment import DEATHS, Death, Deaths, Failure, failure_path, write_json
from services.trainer.processes.group import failure_of
from shared.store.weights.manifests import WeightsError


def raised(folder: Path, rank: int, error: str, message: str = "why", number: int | None = None) -> None:
    write_json(
        failure_path(folder, rank), Failure(rank=rank, error=error, message=message, errno=number, at_s=float(rank))
    )


def died(folder: Path, *exit_codes: int) -> None:
    deaths = [Death(rank=rank, exit_code=code) for rank, code in enumerate(exit_codes)]
    write_json(folder / DEATHS, Deaths(deaths=deaths))


@pytest.mark.parametrize("kind", [WrongPolicyError, WeightsError])
def test_a_known_exception_is_told_before_everything_else(tmp_path: Path, kind: type[Exception]) -> None:
    """Another rank lost its neighbour and said so earlier, and a third was killed."""
    raised(tmp_path, 0, "RuntimeError", "connection closed by peer")
    raised(tmp_path, 1, kind.__name__, "the policy to train is not the policy that sampled")
    died(tmp_path, 1, 1, -9)
    found = failure_of(tmp_path, 1, [])
    assert type(found) is kind
    assert str(found) == "the policy to train is not the policy that sampled"


def test_a_full_disk_stays_a_full_disk(tmp_path: Path) -> None:
    """The worker waits for room, and counts no try."""
    raised(tmp_path, 1, "OSError", "[Errno 28] No space left on device: 'x'", errno.ENOSPC)
    found = failure_of(tmp_path, 1, [])
    assert isinstance(found, OSError)
    assert found.errno == errno.ENOSPC


def test_another_missing_file_is_no_reason_by_itself(tmp_path: Path) -> None:
    raised(tmp_path, 1, "FileNotFoundError", "gone", errno.ENOENT)
    assert str(failure_of(tmp_path, 1, [])).startswith("rank 1 raised FileNotFoundError: gone; the group was ended")


def test_a_signal_is_told_before_the_exceptions_that_it_causes(tmp_path: Path) -> None:
    """Rank 0 was ended by the launcher's SIGTERM, rank 1 by somebody's SIGKILL, rank 2 then lost its neighbour."""
    raised(tmp_path, 2, "RuntimeError", "connection closed by peer")
    died(tmp_path, -15, -9, 1)
    found = failure_of(tmp_path, 1, ["first", "x" * 1000])
    assert isinstance(found, GroupFailedError)
    assert str(found).startswith("rank 1 was killed by SIGKILL; the group was ended. Its last lines:\nfirst\nxxx")
    assert len(str(found)) < 500


@pytest.mark.parametrize(
    ("exit_codes", "reason"),
    [
        ((-15,), "rank 0 was killed by SIGTERM"),
        ((-15, 3), "rank 1 ended with exit code 3"),
        ((-15, -6), "rank 1 was killed by SIGABRT"),
    ],
)
def test_without_an_exception_exit_codes_tell(tmp_path: Path, exit_codes: tuple[int, ...], reason: str) -> None:
    died(tmp_path, *exit_codes)
    assert str(failure_of(tmp_path, 1, [])).startswith(f"{reason}; ")


def test_without_any_word_of_the_ranks_it_is_the_launcher(tmp_path: Path) -> None:
    assert str(failure_of(tmp_path, -9, [])).startswith("the launcher of the ranks was killed by SIGKILL; ")
