"""`/v1/completions`: the promoted version answers or nobody does; runs go first; what is not offered is named."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.policy.api.app import policy_app
from services.policy.api.completions import CompletionLimits, Completions
from services.policy.engine import EngineError
from services.policy.settings import PolicySettings
from services.policy.swapping.gate import Gate
from shared.contracts.rest.completions import CompletionResponse
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import promotions
from shared.store.artifacts.store import DirectoryStore
from tests.support.asking import ask
from tests.support.fake_engine import STOP, VOCAB_SIZE, FakeEngine, FakeTokenizer
from tests.support.waiting import wait_until

CONTEXT = 64


class Service:
    """A policy service over a fake engine, with two published versions of a run."""

    def __init__(self, folder: Path, idle_s: float = 0.0) -> None:
        self.store = DirectoryStore(folder)
        self.engine = FakeEngine()
        self.gate = Gate(self.engine, lambda version: self.store.path(version.directory))
        limits = CompletionLimits(idle_s=idle_s, max_tokens=32, max_responses=8)
        self.app = policy_app(PolicySettings(), Completions(self.store, self.gate, FakeTokenizer, limits))
        self.versions = [self._publish(number) for number in range(3)]

    def promote(self, number: int) -> None:
        promotions.promote(self.store, self.versions[number], by="test")

    def ask(self, method: str = "POST", path: str = "/v1/completions", **body: Any) -> httpx.Response:
        return ask(self.app, method, path, json=body if method == "POST" else None)

    def answer(self, **body: Any) -> CompletionResponse:
        response = self.ask(**({"prompt": "once"} | body))
        assert response.status_code == 200, response.text
        return CompletionResponse.model_validate_json(response.content)

    def _publish(self, number: int) -> WeightVersion:
        directory = f"runs/run/weights/{number:04d}-1"
        path = self.store.path(directory)
        path.mkdir(parents=True)
        (path / "config.json").write_text(f'{{"vocab_size": {VOCAB_SIZE}, "max_position_embeddings": {CONTEXT}}}')
        return WeightVersion(run="run", number=number, digest=f"{number}" * 64, directory=directory)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def assert_refused(response: httpx.Response, status: int, *parts: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    for part in parts:
        assert part in response.text
    return response.json()


def test_before_anything_is_promoted_the_answer_says_how_to_promote(service: Service) -> None:
    assert_refused(service.ask(prompt="once"), 409, "inpo weights promote RUN NUMBER")
    assert service.ask("GET", "/v1/models").json() == {"object": "list", "data": []}
    assert service.engine.swaps == []


def test_a_prompt_of_more_bytes_than_the_context_can_have_is_refused_before_it_is_tokenised(service: Service) -> None:
    """2^13 tokens of 64 bytes, where the model does not say how many it can attend to."""
    service.promote(1)
    response = service.ask(prompt="x" * (64 * 2**13 + 1), max_tokens=4)
    assert response.status_code == 422
    assert "prompt 0 is over-long: 524289 bytes" in response.json()["detail"]


def test_the_promoted_version_answers_and_is_named(service: Service) -> None:
    service.promote(1)
    response = service.ask(prompt="once", max_tokens=4)
    body = CompletionResponse.model_validate_json(response.content)
    assert (body.model, body.digest) == ("run@1", "1" * 64)
    assert response.headers["inpo-weights-digest"] == "1" * 64
    (model,) = service.ask("GET", "/v1/models").json()["data"]
    assert (model["id"], model["digest"], model["live"]) == ("run@1", "1" * 64, True)


def test_promotion_and_rollback_decide_who_answers_next(service: Service) -> None:
    for number in (0, 1, 2):
        service.promote(number)
        assert service.answer().model == f"run@{number}"
    promotions.roll_back(service.store, by="test")
    assert service.answer(model="run@1").model == "run@1"
    assert [version.number for version in service.engine.swaps] == [0, 1, 2, 1]
    assert_refused(service.ask(prompt="once", model="run@2"), 404, "run@1")


def test_while_the_newest_promotion_is_torn_nobody_is_answered_by_an_earlier_one(service: Service) -> None:
    for number in (0, 1):
        service.promote(number)
    service.store.path("promotions/0002.json").write_text("")
    assert_refused(service.ask(prompt="once"), 503, "promotions/0002.json")
    promotions.roll_back(service.store, by="test")
    assert service.answer().model == "run@0"


def test_counts_ids_log_probs_and_finish_reasons_are_those_of_what_was_drawn(service: Service) -> None:
    """The fake engine is uniform over 256 bytes: every log-prob is -log 256 = -5.545. Two prompts, three draws each."""
    service.promote(1)
    body = service.answer(prompt=["ab", "cde"], n=3, max_tokens=30, seed=1, logprobs=0, return_token_ids=True)
    assert [choice.index for choice in body.choices] == list(range(6))
    assert [choice.prompt_token_ids for choice in body.choices] == [[97, 98]] * 3 + [[99, 100, 101]] * 3
    drawn = 0
    for choice in body.choices:
        ids, logprobs = choice.token_ids, choice.logprobs
        assert ids is not None
        assert logprobs is not None
        assert logprobs.token_logprobs == pytest.approx([-5.545177] * len(ids))
        assert choice.text == " ".join(f"{token:02x}" for token in ids if token != STOP)
        assert choice.finish_reason == ("stop" if ids[-1] == STOP else "length")
        assert len(logprobs.tokens) == len(ids) <= 30
        drawn += len(ids)
    usage = body.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, drawn, 5 + drawn)
    assert service.answer().choices[0].token_ids is None
    assert service.answer().choices[0].logprobs is None


def test_the_same_seed_gives_the_same_responses_and_n_different_ones(service: Service) -> None:
    service.promote(1)
    texts = [[choice.text for choice in service.answer(seed=seed, n=4).choices] for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == 4
    assert service.answer().choices[0].text != service.answer().choices[0].text


def test_text_and_its_token_ids_are_the_same_prompt_alone_and_in_a_list(service: Service) -> None:
    service.promote(1)
    forms: list[Any] = ["ab", [97, 98], ["ab"], [[97, 98]]]
    assert len({service.answer(prompt=form, seed=3).choices[0].text for form in forms}) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"stream": True}, "stream"),
        ({"stop": ["\n"]}, "stop"),
        ({"stop": "\n"}, "stop"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": 11}, "temperature"),
        ({"logprobs": 5}, "logprobs"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"suffix": "end"}, "suffix"),
        ({"top_k": 5}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 33}, "max_tokens"),
        ({"n": 9}, "prompt"),
        ({"prompt": ["a"] * 3, "n": 3}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [["a"]]}, "prompt"),
        ({"prompt": [VOCAB_SIZE]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [2**70]}, "prompt"),
        ({"prompt": "x" * (CONTEXT - 15)}, "prompt"),
        ({"seed": -1}, "seed"),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_refused_naming_the_field(
    service: Service, body: dict[str, Any], field: str
) -> None:
    """The default of 16 new tokens leaves 48 of the context's 64 for the prompt; 49 are too many."""
    service.promote(1)
    problem = assert_refused(service.ask(**({"prompt": "once"} | body)), 422)
    assert any(error["field"].split(".")[0] == field for error in problem["errors"]), problem


def test_what_clients_send_by_habit_is_accepted_where_it_asks_for_nothing(service: Service) -> None:
    service.promote(1)
    service.answer(
        user="me", stream=False, stop=None, echo=False, best_of=1, suffix=None, logit_bias={}, frequency_penalty=0.0,
        presence_penalty=0,
    )  # fmt: skip
    service.answer(prompt="x" * (CONTEXT - 16))


def test_while_a_run_has_the_engine_under_another_version_outsiders_are_asked_to_come_back(tmp_path: Path) -> None:
    service = Service(tmp_path, idle_s=60.0)
    service.promote(1)
    with service.gate.serving(service.versions[2]):
        refused = service.ask(prompt="once")
        assert_refused(refused, 503, "A run is at work")
        assert refused.headers["retry-after"] == "60"
        assert refused.json()["retryable"] is True
    assert service.ask(prompt="once").status_code == 503
    assert service.engine.swaps == [service.versions[2]]


def test_beside_a_run_under_the_promoted_version_outsiders_are_answered_at_once(tmp_path: Path) -> None:
    service = Service(tmp_path, idle_s=60.0)
    service.promote(1)
    with service.gate.serving(service.versions[1]):
        assert service.answer().model == "run@1"


def test_refused_weights_answer_nobody_and_the_old_promotion_serves_again_after_a_rollback(service: Service) -> None:
    service.promote(1)
    service.answer()
    service.engine.refused.add(service.versions[2].digest)
    service.promote(2)
    for _ in range(2):
        assert_refused(service.ask(prompt="once"), 503, "is refused by the test")
    assert service.engine.live == service.versions[1]
    promotions.roll_back(service.store, by="test")
    assert service.answer().model == "run@1"


def test_an_engine_that_is_away_for_a_moment_is_asked_again_on_the_next_request(service: Service) -> None:
    service.promote(1)

    def away(what: str) -> None:
        service.engine.during = lambda what: None
        raise EngineError("it is being started again")

    service.engine.during = away
    assert_refused(service.ask(prompt="once"), 503, "it is being started again")
    assert service.answer().model == "run@1"


def test_weights_whose_files_are_gone_are_a_503_and_not_a_crash(service: Service) -> None:
    service.promote(1)
    (service.store.path(service.versions[1].directory) / "config.json").unlink()
    assert_refused(service.ask(prompt="once"), 503, "cannot be read")


def test_a_promotion_during_requests_mixes_no_two_versions_in_a_response(service: Service) -> None:
    """Every text is what the named version draws for the seed; both versions answer while promotions alternate."""
    expected: dict[str, str] = {}
    for number in (1, 2):
        service.promote(number)
        expected[f"run@{number}"] = service.answer(seed=5, max_tokens=8).choices[0].text
    stop = threading.Event()

    def alternate() -> None:
        number = 1
        while not stop.is_set():
            service.promote(number)
            number = 3 - number

    def call(_: int) -> list[tuple[str, str]]:
        answers: list[tuple[str, str]] = []
        for _ in range(15):
            response = service.ask(prompt="once", seed=5, max_tokens=8)
            if response.status_code == 200:
                answers.append((response.json()["model"], response.json()["choices"][0]["text"]))
            else:
                assert response.status_code == 503
        return answers

    with ThreadPoolExecutor(5) as pool:
        alternating = pool.submit(alternate)
        try:
            answers = [pair for found in pool.map(call, range(4)) for pair in found]
        finally:
            stop.set()
        alternating.result(10)
    assert answers
    assert all(expected[model] == text for model, text in answers)
    assert service.engine.overlaps == 0


def test_a_runs_work_waits_for_an_outsiders_response_and_then_has_the_engine(service: Service) -> None:
    service.promote(1)
    service.answer()
    generating, finish = threading.Event(), threading.Event()

    def during(what: str) -> None:
        if what == "generate" and not generating.is_set():
            generating.set()
            assert finish.wait(10)

    service.engine.during = during
    with ThreadPoolExecutor(2) as pool:
        outsider = pool.submit(service.answer)
        assert generating.wait(10)
        run = pool.submit(service.gate.ensure, service.versions[2])
        wait_until(lambda: service.gate.closed, 10, "the run's swap to close the gate")
        finish.set()
        assert outsider.result(10).model == "run@1"
        run.result(10)
    assert service.engine.live == service.versions[2]
