"""Connections to Redis, and what every user of one sees when it is lost."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from shared.store.queue.protocol import QueueUnavailableError

SOCKET_TIMEOUT_S = 10.0


def connect(url: str, *, timeout_s: float = SOCKET_TIMEOUT_S) -> Any:
    """A client that threads may share. Never retries by itself: callers know what may be done twice.

    ValueError where the URL is none; it shows nothing of it, which may be a password.
    """
    _check(url)
    return redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        protocol=2,
        decode_responses=True,
        encoding_errors="replace",
        socket_timeout=timeout_s,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
    )


def _check(url: str) -> None:
    """A password with a slash, colon or at sign that is not escaped would become a host, a port or a path."""
    try:
        parts = urlsplit(url)
        behind = url.partition("://")[2].removeprefix(parts.netloc)
        readable = parts.scheme in ("redis", "rediss", "unix") and "@" not in behind and parts.port != 0
    except ValueError:  # what stands for the port is no number
        readable = False
    if not readable:
        raise ValueError(
            "INPO_REDIS_URL is no address of a Redis, such as redis://:PASSWORD@127.0.0.1:6379/0 (a password is "
            "percent-encoded)"
        )


@contextmanager
def available() -> Generator[None]:
    """`QueueUnavailableError`, in Redis' own words, when what is called inside finds Redis lost or refusing.

    Every refusal is one: full, busy, loading, a replica, without its group or its password, or of a version that lacks
    a command. None of them is about the work that was asked for, and all of them may pass.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, ResponseError) as error:
        raise QueueUnavailableError(_in_its_words(error)) from error


def _in_its_words(error: redis.RedisError) -> str:
    """The client takes the code off a reply that it knows; people search for the code."""
    code = getattr(error, "status_code", None)
    text = str(error)
    return f"{code} {text}" if code and code != "ERR" and not text.startswith(code) else text


def server_version(url: str, *, timeout_s: float) -> str:
    """What Redis at this address calls itself; `QueueUnavailableError` when none answers that knows us."""
    client = connect(url, timeout_s=timeout_s)
    try:
        with available():
            return str(client.info("server")["redis_version"])
    finally:
        client.close()
