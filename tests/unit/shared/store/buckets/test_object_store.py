"""An object store that cannot be had, or cannot hold artifacts, says so."""

import errno
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest

from services.cli.launcher.redis_server import free_port
from shared.store.artifacts.probe import UnusableStoreError, check
from shared.store.buckets import object_store
from shared.store.buckets.object_store import ObjectStore, StoreUnavailableError
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.xdist_group("s3")


def test_a_store_that_creates_exclusively_passes_its_check_and_keeps_nothing_of_it(
    s3: S3Server, tmp_path: Path
) -> None:
    store = ObjectStore(s3.url(secrets.token_hex(8)), tmp_path, 0)
    check(store)
    assert store.list("checks") == []


def test_a_store_that_overwrites_is_refused(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was made before conditional puts were: it does not know the header, and ignores it."""
    put: Any = obstore.put

    def overwriting(*arguments: Any, **options: Any) -> Any:
        return put(*arguments, **{**options, "mode": "overwrite"})

    monkeypatch.setattr(obstore, "put", overwriting)
    with pytest.raises(UnusableStoreError, match="ignores conditional puts"):
        check(ObjectStore(s3.url(secrets.token_hex(8)), tmp_path, 0))


def test_a_store_that_is_used_without_conditional_puts_is_refused(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    with pytest.raises(UnusableStoreError, match="no conditional puts here"):
        check(ObjectStore(s3.url(secrets.token_hex(8)), tmp_path, 0))


def test_a_bucket_that_is_not_there_is_named(s3: S3Server, tmp_path: Path) -> None:
    store = ObjectStore("s3://nobodys/x", tmp_path, 0)
    for call in (lambda: store.list("runs"), lambda: store.create("runs/a", b"")):
        with pytest.raises(StoreUnavailableError, match="s3://nobodys/x"):
            call()


def test_a_store_that_does_not_answer_is_an_os_error_that_passes(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    store = ObjectStore(s3.url("x"), tmp_path, 0)
    for call in (lambda: store.read("runs/a"), lambda: store.exists("runs/a"), lambda: store.create("runs/a", b"")):
        with pytest.raises(OSError, match="does not do as asked") as caught:
            call()
        assert caught.value.errno == errno.EIO


def always(text: str) -> Callable[[int], str]:
    def token_hex(num_bytes: int) -> str:
        del num_bytes
        return text

    return token_hex


def test_a_put_whose_answer_was_lost_is_still_this_writers(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library sends it again and is told that the key is taken: by itself."""
    store = ObjectStore(s3.url(secrets.token_hex(8)), tmp_path, 0)
    monkeypatch.setattr(object_store.secrets, "token_hex", always("mine"))
    assert store.create("claims/1", b"first")
    assert store.create("claims/1", b"first"), "the token is this writer's"
    monkeypatch.setattr(object_store.secrets, "token_hex", always("another"))
    assert not store.create("claims/1", b"first"), "equal bytes of another writer are not this one's"
