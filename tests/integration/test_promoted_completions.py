"""Promoted weights over HTTP with a real model: what is answered is what a plain forward of that directory computes."""

from pathlib import Path
from typing import Any

import pytest

from services.controller.api.app import controller_app
from services.controller.loop import ReconcileLoop
from services.controller.runs.repository import RunRepository
from services.controller.settings import ControllerSettings
from services.policy.api.app import policy_app
from services.policy.building import Parts, build_parts
from services.policy.settings import PolicySettings
from shared.contracts.weights import WeightVersion
from shared.store.artifacts.store import DirectoryStore
from shared.store.queue.memory_queue import MemoryQueue
from tests.support import tiny_models
from tests.support.asking import ask
from tests.support.published import a_stored_run, commit_weights

PROMPT = "once upon a time"


class System:
    """A controller and a policy service with the in-process engine, over one store with two committed versions."""

    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore(folder / "store")
        self.models = [tiny_models.make_model(folder / "model-0", seed=1)]
        self.models.append(tiny_models.perturb(self.models[0], folder / "model-1", seed=2, scale=0.05))
        run = a_stored_run(self.store, folder)
        base = commit_weights(self.store, tiny_models.publish(self.store, run, 0, self.models[0]))
        self.versions = [base]
        self.versions.append(
            commit_weights(self.store, tiny_models.publish(self.store, run, 1, self.models[1], parent=base))
        )
        queue = MemoryQueue(lambda: 0.0, lease_s=30.0)
        loop = ReconcileLoop(RunRepository(self.store), queue)
        self.controller = controller_app(ControllerSettings(), self.store, queue, queue, loop)
        settings = PolicySettings(device="cpu", num_threads=1, completion_idle_s=0.0)
        self.parts: Parts = build_parts(settings, self.store)
        self.policy = policy_app(settings, self.parts.completions)

    def promote(self, version: WeightVersion) -> None:
        assert ask(self.controller, "POST", f"/v1/weights/{version.name}:promote").status_code == 200

    def complete(self, **body: Any) -> dict[str, Any]:
        asked = {"prompt": PROMPT, "max_tokens": 12, "logprobs": 0, "return_token_ids": True, "seed": 3, **body}
        response = ask(self.policy, "POST", "/v1/completions", json=asked)
        assert response.status_code == 200, response.text
        return response.json()


def assert_drawn_from(model: Path, answer: dict[str, Any]) -> None:
    """Every response's log-probs equal a direct forward over its prompt and its tokens within 1e-4."""
    for choice in answer["choices"]:
        prompt, drawn = choice["prompt_token_ids"], choice["token_ids"]
        (row,) = tiny_models.direct_log_probs(model, [[*prompt, *drawn]])
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(row[len(prompt) - 1 :], abs=1e-4)


@pytest.mark.timeout(180)
def test_completions_are_drawn_from_the_promoted_weights_through_promotion_rollback_and_refusal(
    tmp_path: Path,
) -> None:
    """Version 0, then 1, then a rollback to 0; a file of version 1 changed on disk is then refused, 0 goes on.

    The models differ by noise of 0.05 a weight: the log-probs of one under the other are off by far more than 1e-4.
    """
    system = System(tmp_path)
    texts: list[str] = []
    for version, model in zip(system.versions, system.models, strict=True):
        system.promote(version)
        answer = system.complete(n=3)
        assert (answer["model"], answer["digest"]) == (version.name, version.digest)
        assert_drawn_from(model, answer)
        texts.append(answer["choices"][0]["text"])
    with pytest.raises(AssertionError):
        assert_drawn_from(system.models[0], system.complete())
    rolled_back = ask(system.controller, "POST", "/v1/weights:rollback")
    assert rolled_back.json()["version"]["number"] == 0
    assert system.complete(n=3)["choices"][0]["text"] == texts[0]

    damaged = system.store.path(system.versions[1].directory) / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x01")
    system.promote(system.versions[1])
    refused = ask(system.policy, "POST", "/v1/completions", json={"prompt": PROMPT})
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert "sha256" in refused.json()["detail"]
    ask(system.controller, "POST", "/v1/weights:rollback")
    assert_drawn_from(system.models[0], system.complete())
