"""Weights are listed by their manifests: nothing is fetched for it."""

import secrets
from pathlib import Path

import pytest

from services.controller.runs.listed_weights import committed_weights
from shared.store.artifacts import layout
from shared.store.buckets.object_store import ObjectStore
from shared.store.weights.manifests import MANIFEST
from tests.support.published import a_stored_run, commit_weights, weights_without_a_model
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.xdist_group("s3")


def test_of_weights_in_a_bucket_the_manifests_are_read_and_no_file_is_fetched(s3: S3Server, tmp_path: Path) -> None:
    """The trainer's machine made two versions; the controller's has an empty staging folder, before and after."""
    url = s3.url(secrets.token_hex(8))
    trainer = ObjectStore(url, tmp_path / "trainer", 2**30)
    run = a_stored_run(trainer, tmp_path)
    versions = [commit_weights(trainer, weights_without_a_model(trainer, run, number)) for number in (0, 1)]
    controller = ObjectStore(url, tmp_path / "controller", 2**30)
    found = committed_weights(controller, [run])
    assert [view.version for view in found.weights] == versions
    assert [view.path for view in found.weights] == [f"{url}/{version.directory}" for version in versions]
    assert not (tmp_path / "controller").exists()


def test_a_version_in_a_bucket_without_its_manifest_is_damaged_and_hides_no_other(s3: S3Server, tmp_path: Path) -> None:
    store = ObjectStore(s3.url(secrets.token_hex(8)), tmp_path / "staging", 2**30)
    run = a_stored_run(store, tmp_path)
    base, first = (commit_weights(store, weights_without_a_model(store, run, number)) for number in (0, 1))
    store.remove(f"{first.directory}/{MANIFEST}")
    found = committed_weights(store, [run])
    assert [view.version for view in found.weights] == [base]
    (damaged,) = found.damaged
    assert (damaged.run, damaged.number) == (run, 1)
    assert "publishing did not finish" in damaged.problem
    assert layout.weights(run) in damaged.problem
