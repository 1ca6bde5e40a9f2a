"""Weight versions over REST: listed, promoted to outsiders, rolled back."""

from typing import Annotated

from fastapi import APIRouter, Path

from services.controller.api import examples
from services.controller.reconciling.observer import committed_version
from services.controller.runs.repository import RunRepository, UnknownRunError
from shared.contracts.rest.runs import WeightsList
from shared.contracts.weights import PromotedWeights, Promotion, WeightVersion
from shared.runtime.http.app import ProblemError
from shared.runtime.http.openapi import examples as described
from shared.runtime.http.openapi import refusals
from shared.runtime.http.requests import Caller, Identity
from shared.store.artifacts import promotions
from shared.store.artifacts.requests import RequestIdentity
from shared.store.artifacts.store import ArtifactStore, CorruptArtifactError
from shared.store.weights.manifests import WeightsError, check_digest
from shared.store.weights.store import weights_of

VersionName = Annotated[
    str,
    Path(
        pattern=r"^[a-z0-9][a-z0-9-]{0,120}@(0|[1-9][0-9]{0,5})$",
        examples=[examples.VERSION_NAME],
        description="`run@number`: a run's id and the number of a committed weight version of it.",
    ),
]


def weights_router(repository: RunRepository, store: ArtifactStore) -> APIRouter:
    """`/v1/weights`."""
    router = APIRouter(prefix="/v1/weights", tags=["weights"])

    @router.get("", openapi_extra=described(response=examples.WEIGHTS))
    def list_weights() -> WeightsList:
        """Committed weight versions: ordinary Hugging Face directories."""
        return repository.weights()

    @router.get("/promoted", openapi_extra=described(response=examples.PROMOTED))
    def get_promoted() -> PromotedWeights:
        """What the policy service answers outsiders with, and what it answered with before."""
        found = promotions.found(store)
        return PromotedWeights(current=found.in_force, history=found.history, problem="; ".join(found.problems) or None)

    @router.post(
        "/{version}:promote",
        responses=refusals(
            {404: "The run has no committed version of this number.", 409: "The weights are not what was committed."}
        ),
        openapi_extra=described(response=examples.PROMOTION),
    )
    def promote_weights(version: VersionName, by: Caller, identity: Identity) -> Promotion:
        """Make a committed version the one that `/v1/completions` of the policy service answers with.

        Runs are not touched by it. Promoting what is promoted already changes nothing.
        """
        return promotions.promote(store, _promotable(repository, store, version), by=by, request=_digest(identity))

    @router.post(
        ":rollback",
        responses=refusals({409: "Nothing was promoted before."}),
        openapi_extra=described(response=examples.PROMOTION),
    )
    def roll_back_weights(by: Caller, identity: Identity) -> Promotion:
        """Return to the promotion before the present one; asked again, to the one before that."""
        try:
            return promotions.roll_back(store, by=by, request=_digest(identity))
        except promotions.NothingPromotedError as error:
            raise ProblemError(409, "Nothing to return to", str(error)) from None

    return router


def _promotable(repository: RunRepository, store: ArtifactStore, name: str) -> WeightVersion:
    """The committed version of that name, whose directory still is what was committed."""
    run, _, number = name.partition("@")
    try:
        repository.known(run)
    except UnknownRunError:
        raise ProblemError(404, "Unknown run", f"no run has the id {run!r}; GET /v1/runs lists them") from None
    try:
        version = committed_version(store, run, int(number))
    except CorruptArtifactError as error:
        raise ProblemError(409, "Commit damaged", str(error)) from None
    if version is None:
        detail = f"version {number} of {run} is not committed; GET /v1/weights lists those that are"
        raise ProblemError(404, "Unknown weight version", detail)
    try:
        check_digest(weights_of(store).manifest(version), version)
    except WeightsError as error:
        raise ProblemError(409, "Weights damaged", str(error)) from None
    return version


def _digest(identity: RequestIdentity | None) -> str | None:
    return None if identity is None else identity.digest
