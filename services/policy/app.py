"""The policy service's API: what is promoted, and its completions, in OpenAI's words."""

from datetime import datetime

from fastapi import FastAPI, Response

from services.policy.completions import Completions
from services.policy.settings import PolicySettings
from shared.contracts.completions import CompletionRequest, CompletionResponse, ServedModel, ServedModels
from shared.runtime.http import Readiness, create_app

DIGEST_HEADER = "Inpo-Weights-Digest"


def policy_app(settings: PolicySettings, completions: Completions, *, ready: Readiness = dict) -> FastAPI:
    """The app. Generating blocks a thread of the server's pool, never its event loop."""
    app = create_app("INPO policy", settings, ready=ready)

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

    app.add_api_route("/v1/models", list_models, tags=["completions"])
    app.add_api_route("/v1/completions", create_completion, methods=["POST"], tags=["completions"])
    return app
