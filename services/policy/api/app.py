"""The policy service's API: what is promoted, and its completions, in OpenAI's words."""

from datetime import datetime

from fastapi import FastAPI, Response

from services.policy.api.completions import Completions
from services.policy.settings import PolicySettings
from shared.contracts.rest.completions import (
    CompletionChoice,
    CompletionRequest,
    CompletionResponse,
    CompletionUsage,
    ServedModel,
    ServedModels,
)
from shared.runtime.http.app import Lane, Readiness, create_app
from shared.runtime.http.openapi import examples, refusals

# An engine that batches wants many at once; the others wait without a thread.
LANES = (Lane(r"POST /v1/completions", 40),)
DIGEST_HEADER = "Inpo-Weights-Digest"

_NAME, _DIGEST = "stories-20260301-120000-5f3a9c0d2b7e4a61c8d0f2b4a6e8135c@3", "5f" * 32
REQUEST = {"model": "promoted", "prompt": "Once upon a time", "max_tokens": 32, "seed": 7}
RESPONSE = CompletionResponse(
    id="cmpl-0f3a",
    created=1_772_366_400,
    model=_NAME,
    digest=_DIGEST,
    choices=[
        CompletionChoice(
            index=0,
            text=" there was a happy dog.",
            logprobs=None,
            finish_reason="stop",
            token_ids=None,
            prompt_token_ids=None,
        )
    ],
    usage=CompletionUsage(prompt_tokens=4, completion_tokens=7, total_tokens=11),
)
MODELS = ServedModels(data=[ServedModel(id=_NAME, created=1_772_366_400, digest=_DIGEST, live=True)])


def policy_app(settings: PolicySettings, completions: Completions, *, ready: Readiness = dict) -> FastAPI:
    """The app. Generating blocks threads of a lane of its own, never the event loop nor what others need."""
    app = create_app("INPO policy", settings, ready=ready, lanes=LANES)

    def list_models() -> ServedModels:
        """The promoted weight version; an empty list until one is promoted."""
        promotion = completions.promotion()
        if promotion is None:
            return ServedModels(data=[])
        version = promotion.version
        created = int(datetime.fromisoformat(promotion.at).timestamp())
        live = completions.is_live(version)
        return ServedModels(data=[ServedModel(id=version.name, created=created, digest=version.digest, live=live)])

    def create_completion(request: CompletionRequest, response: Response) -> CompletionResponse:
        """Responses of the promoted weights, verified by their canary; of no other, whatever a run is doing.

        Runs go first: while one has the engine under another version, the answer is 503 with `Retry-After`.
        """
        answer = completions.answer(request)
        response.headers[DIGEST_HEADER] = answer.digest
        return answer

    app.add_api_route(
        "/v1/models", list_models, tags=["completions"], openapi_extra=examples(response=MODELS.model_dump())
    )
    app.add_api_route(
        "/v1/completions",
        create_completion,
        methods=["POST"],
        tags=["completions"],
        responses=refusals(
            {
                404: "`model` names another version than the promoted one.",
                409: "No weight version is promoted yet.",
                503: "A run has the engine under another version, or the promoted weights failed verification.",
            }
        ),
        openapi_extra=examples(request=REQUEST, response=RESPONSE.model_dump()),
    )
    return app
