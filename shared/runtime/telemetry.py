"""Logs and timings: JSON lines on standard error, spans in the log and in a Prometheus histogram.

Reporting never raises: what cannot be written is lost and counted (`shared.runtime.lossy_stream`), what cannot be
rendered is told in part.
"""

import logging
import sys
import time
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from prometheus_client import Histogram

from shared.runtime.log_limits import RepeatLimit
from shared.runtime.lossy_stream import LossyStream

_SPANS = Histogram(
    "inpo_span_seconds",
    "Duration of a span of work, by name.",
    ["name"],
    buckets=(0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0),
)

_AS_JSON = structlog.processors.JSONRenderer()


def configure_logging(service: str, level: str) -> None:
    """One JSON object a line on standard error, each with the service's name.

    From now on neither standard stream of the process raises when it cannot be written to, whoever prints.
    """
    sys.stdout, sys.stderr = LossyStream.around(sys.stdout, service), LossyStream.around(sys.stderr, service)
    structlog.configure(
        processors=[
            RepeatLimit(),
            structlog.contextvars.merge_contextvars,
            lambda _, __, entry: {"service": service, **entry},
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _rendered(logger: Any, method: str, entry: MutableMapping[str, Any]) -> str:
    """The line; of one with a value that cannot be shown, what can."""
    try:
        return str(_AS_JSON(logger, method, entry))
    except Exception as error:  # noqa: BLE001  (a value's own `repr` may raise anything)
        plain = {name: value for name, value in entry.items() if isinstance(value, str | int | float | None)}
        return str(_AS_JSON(logger, method, {**plain, "unrenderable": type(error).__name__}))


@contextmanager
def span(name: str, **fields: Any) -> Generator[None]:
    """Time the block: one log line and one observation of `inpo_span_seconds`, also when the block raises.

    The line is `{"event": "span", "name": …, "start_s": …, "end_s": …, "duration_s": …}`, start and end in Unix time,
    with the exception's class as `error` when there was one.
    """
    start, clock = time.time(), time.monotonic()
    failure: dict[str, str] = {}
    try:
        yield
    except BaseException as error:
        failure = {"error": type(error).__name__}
        raise
    finally:
        duration = time.monotonic() - clock
        _SPANS.labels(name).observe(duration)
        times = {"start_s": start, "end_s": start + duration, "duration_s": duration}
        structlog.get_logger().info("span", name=name, **times, **failure, **fields)
