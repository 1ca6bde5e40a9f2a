"""All checks, side by side: together they take as long as the slowest, which is the import of torch."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.cli.doctor import host, parts
from services.cli.doctor.machine import Machine
from services.cli.doctor.rows import Places, Row

CHECKS: tuple[Callable[[Machine, Places], list[Row]], ...] = (
    host.inpo,
    host.python,
    host.processor,
    host.torch,
    host.packages,
    parts.redis,
    parts.vllm,
    parts.docker,
    host.disks,
    parts.controller,
)


def examine(machine: Machine, places: Places) -> list[Row]:
    """Every row, in the order of the checks."""
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        pending = [pool.submit(check, machine, places) for check in CHECKS]
        return [row for check in pending for row in check.result()]


def system_in(state_dir: Path) -> Places | None:
    """The places of the system that runs in a state directory; None when none does, or none of this user's."""
    try:
        from services.cli.failures import UserError  # noqa: PLC0415
        from services.cli.launcher.up import whereabouts  # noqa: PLC0415
    except ImportError:  # a package is not there: the table says which
        return None
    try:
        found = whereabouts(state_dir)
    except UserError:
        return None
    return None if found is None else Places(found.url, found.store_dir, found.redis_url)
