"""The committed weight versions of all runs, and those that cannot be had any more."""

from collections.abc import Iterable, Iterator

from services.controller.reconciling.observer import committed_version, num_committed
from services.controller.runs.iterations import or_problem
from shared.contracts.rest.runs import DamagedWeights, WeightsList, WeightsView
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, MissingArtifactError
from shared.store.weights.store import weights_of


def committed_weights(store: ArtifactStore, runs: Iterable[str]) -> WeightsList:
    """The versions of these runs, in their order; what is missing or torn hides no other."""
    weights: list[WeightsView] = []
    damaged: list[DamagedWeights] = []
    for run, number in _numbers(store, runs):
        problems: list[str] = []
        view = or_problem(problems, lambda run=run, number=number: _view(store, run, number))
        weights += [view] if view is not None else []
        damaged += [DamagedWeights(run=run, number=number, problem=problem) for problem in problems]
    return WeightsList(weights=weights, damaged=damaged)


def _numbers(store: ArtifactStore, runs: Iterable[str]) -> Iterator[tuple[str, int]]:
    for run in runs:
        for number in range(num_committed(store, run) + 1):
            yield run, number


def _view(store: ArtifactStore, run: str, number: int) -> WeightsView | None:
    """None while the model is not imported."""
    version = committed_version(store, run, number)
    if version is None:
        if number:
            raise MissingArtifactError(layout.commit(run, number))
        return None
    weights = weights_of(store)
    manifest = weights.manifest(version)
    return WeightsView(
        version=version,
        parent=manifest.parent,
        num_parameters=manifest.num_parameters,
        size_bytes=sum(file.size_bytes for file in manifest.files),
        path=weights.address(version),
    )
