"""Weight versions that are committed without training: a run's records, and directories with honest manifests."""

from pathlib import Path

from services.controller.runs.repository import RunRepository
from shared.contracts.records import Commit, PublishedWeights
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, create_model
from shared.store.weights.store import weights_of
from tests.support.specs import a_spec


def a_stored_run(store: ArtifactStore, tmp_path: Path) -> str:
    """The id of a run that is created and has no weights yet."""
    return RunRepository(store).create(a_spec(tmp_path)).id


def weights_without_a_model(store: ArtifactStore, run: str, number: int) -> WeightVersion:
    """A finished weights directory whose only file says which version it is."""
    candidate = weights_of(store).begin(run, number)
    (candidate.path / "config.json").write_text(f'{{"version": {number}}}')
    return weights_of(store).finish(candidate, parent=None, num_parameters=0)


def commit_weights(store: ArtifactStore, version: WeightVersion) -> WeightVersion:
    """Commit a version as the controller does: number 0 by the base import, others by their iteration."""
    if version.number == 0:
        create_model(store, layout.published(layout.base(version.run)), PublishedWeights(version=version))
    else:
        proof = Commit(iteration=version.number, weights=version, num_pairs=0, digests={}, metrics={})
        create_model(store, layout.commit(version.run, version.number), proof)
    return version
