"""An address of Redis is read before it is used, and never shown: it may hold a password."""

import pytest

from shared.store.redis_client import connect, server_version


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret/x@cache:6379/0",
        "redis://user:s3cret@cache:s3cret/0",
        "redis://s3cret?x@cache/0",
        "redis://s3cret#x@cache/0",
        "redis://cache:70000/s3cret",
        "http://:s3cret@cache/0",
        "s3cret",
        "",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_shown(url: str) -> None:
    """A slash in a password makes a host or a port of its beginning, which every error would name."""
    for ask in (lambda: connect(url), lambda: server_version(url, timeout_s=1.0)):
        with pytest.raises(ValueError, match="INPO_REDIS_URL is no address of a Redis") as caught:
            ask()
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:6379/0", "rediss://user:p%2Fw@cache/1?protocol=2", "redis://localhost", "unix:///run/r.sock"],
)
def test_other_addresses_are_used_as_they_are(url: str) -> None:
    connect(url).close()
