"""The handler of `generate` items over the fake engine: what it writes, adopts, skips and refuses."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.policy.engine import Completion, EngineError, GenerationRequest, Sampling, SwapRefusedError
from services.policy.swapping.gate import Gate
from services.policy.worker import GenerateHandler
from shared.contracts.plans import BasePlan
from shared.contracts.records import Rollout
from shared.contracts.spec import ModelSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import Attempt
from shared.inpo.seeds import seed_of
from shared.store.artifacts import layout
from shared.store.artifacts.store import CorruptArtifactError, DirectoryStore, MissingArtifactError, create_model
from shared.store.artifacts.tables import read_skipped, read_table
from tests.support.fake_engine import FakeEngine, FakeTokenizer
from tests.support.sampling_plans import generate_item, put_evaluation, put_half_step, put_prompts

FIRST = Attempt(number=1)
TEXTS = ["one", "two two", "three", "four"]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def version(store: DirectoryStore, number: int = 0, run: str = "run", context: int = 64) -> WeightVersion:
    directory = f"{layout.weights(run)}/{number:04d}-1"
    store.create(f"{directory}/config.json", json.dumps({"max_position_embeddings": context}).encode())
    return WeightVersion(run=run, number=number, digest=f"digest-{number}", directory=directory)


def handler(store: DirectoryStore, engine: FakeEngine) -> GenerateHandler:
    return GenerateHandler(store, Gate(engine, lambda wanted: store.path(wanted.directory)), FakeTokenizer)


class RecordingEngine(FakeEngine):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[list[GenerationRequest], Sampling]] = []

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[list[Completion]]:
        self.asked.append((list(requests), sampling))
        return super().generate(requests, sampling)


class SpoilingEngine(FakeEngine):
    """Changes the first completion that it gives."""

    def __init__(self, spoil: Callable[[Completion], Completion]) -> None:
        super().__init__()
        self._spoil = spoil

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[list[Completion]]:
        found = super().generate(requests, sampling)
        found[0][0] = self._spoil(found[0][0])
        return found


class ChattyTokenizer(FakeTokenizer):
    """Its chat template spells out its variables."""

    has_chat_template = True

    def encode_chat(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> list[int]:
        return list(f"{messages[0]['content']} {dict(variables)}".encode())


def test_the_chat_template_gets_the_plans_variables(store: DirectoryStore) -> None:
    put_prompts(store, "run", ["hi"])
    step = put_half_step(store, version(store), [[0]], chat_template_kwargs={"a": False})
    gate = Gate(FakeEngine(), lambda wanted: store.path(wanted.directory))
    GenerateHandler(store, gate, ChattyTokenizer)(generate_item("run", step), FIRST)
    (rollout,) = read_table(store, layout.rollouts(step, 0), Rollout)
    assert bytes(rollout.prompt_ids).decode() == "hi {'a': False}"


def test_a_shards_prompts_become_rollouts_of_the_planned_version(store: DirectoryStore) -> None:
    prompts = put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store, 3), [[0, 1], [3, 2]])
    engine = FakeEngine()
    data = handler(store, engine)(generate_item("run", step, 1), FIRST)
    rollouts = read_table(store, layout.rollouts(step, 1), Rollout)
    assert [rollout.prompt_id for rollout in rollouts] == ["p3", "p2"]
    assert rollouts[0].prompt == prompts[3].messages
    assert rollouts[0].prompt_ids == list(b"four")
    assert engine.live == version(store, 3)
    for rollout in rollouts:
        assert (rollout.versions, rollout.digests) == ([3] * 4, ["digest-3"] * 4)
        lengths = [len(ids) for ids in rollout.response_ids]
        assert lengths == [len(row) for row in rollout.log_probs]
        assert all(1 <= length <= 8 for length in lengths)
        assert len(lengths) == len(rollout.responses) == len(rollout.finish_reasons) == 4
    tokens = sum(len(ids) for rollout in rollouts for ids in rollout.response_ids)
    assert data == {"rollouts": 2, "skipped": 0, "response_tokens": tokens, "adopted": False}


def test_seeds_follow_one_another_from_a_number_of_step_and_prompt_but_not_of_the_run(store: DirectoryStore) -> None:
    engine = RecordingEngine()
    for run in ("red", "blue"):
        put_prompts(store, run, TEXTS)
        step = put_half_step(store, version(store, run=run), [[0], [2]], iteration=3, seed=11)
        handler(store, engine)(generate_item(run, step, 1), FIRST)
    first = seed_of("sample", 11, "iterations/0003/half-1", "p2") >> 1
    expected = [first, first + 1, first + 2, first + 3]
    assert [[request.seeds for request in requests] for requests, _ in engine.asked] == [[expected], [expected]]


def test_equal_work_gives_equal_bytes(tmp_path: Path) -> None:
    written: list[bytes] = []
    for name in ("a", "b"):
        store = DirectoryStore(tmp_path / name)
        put_prompts(store, "run", TEXTS)
        step = put_half_step(store, version(store), [[0, 1, 2]])
        handler(store, FakeEngine())(generate_item("run", step), FIRST)
        written.append(store.read(layout.rollouts(step, 0)))
    assert written[0] == written[1]


def test_an_existing_artifact_is_adopted_without_generating(store: DirectoryStore) -> None:
    put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store), [[0, 1]])
    first = handler(store, FakeEngine())(generate_item("run", step), FIRST)
    engine = RecordingEngine()
    again = handler(store, engine)(generate_item("run", step), Attempt(number=2))
    assert again == first | {"adopted": True}
    assert engine.asked == []
    assert engine.live is None


def test_the_winner_of_a_race_is_adopted(store: DirectoryStore) -> None:
    """Another replica writes the same shard while this one generates: its object stays."""
    put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store), [[0]])
    engine, other = FakeEngine(), handler(store, FakeEngine())

    def during(what: str) -> None:
        if what == "generate":
            other(generate_item("run", step), FIRST)

    engine.during = during
    assert handler(store, engine)(generate_item("run", step), FIRST)["adopted"]


def test_an_evaluation_samples_its_own_number_of_responses(store: DirectoryStore) -> None:
    put_prompts(store, "run", TEXTS)
    step = put_evaluation(store, version(store, 2), [[1]], num_responses=3)
    engine = RecordingEngine()
    handler(store, engine)(generate_item("run", step), FIRST)
    (rollout,) = read_table(store, layout.rollouts(step, 0), Rollout)
    assert len(rollout.responses) == 3
    assert engine.asked[0][0][0].seeds[0] == seed_of("sample", 7, "evaluations/0002", "p1") >> 1


def test_over_long_prompts_travel_as_skipped_with_the_shard(store: DirectoryStore) -> None:
    """Limit 1,024 by the plan, but 64 - 8 = 56 by the model's context; "x" * 57 is one token too long."""
    put_prompts(store, "run", ["x" * 57, "x" * 56])
    step = put_half_step(store, version(store), [[0, 1]])
    data = handler(store, FakeEngine())(generate_item("run", step), FIRST)
    (skipped,) = read_skipped(store, layout.rollouts(step, 0), Rollout)
    assert (skipped.id, skipped.reason) == ("p0", "over-long: 57 tokens, limit 56")
    assert (data["rollouts"], data["skipped"]) == (1, 1)


def test_a_shard_without_a_usable_prompt_is_an_empty_artifact(store: DirectoryStore) -> None:
    put_prompts(store, "run", ["x" * 100])
    step = put_half_step(store, version(store), [[0]])
    handler(store, FakeEngine())(generate_item("run", step), FIRST)
    assert read_table(store, layout.rollouts(step, 0), Rollout) == []
    assert len(read_skipped(store, layout.rollouts(step, 0), Rollout)) == 1


def test_refused_weights_write_nothing(store: DirectoryStore) -> None:
    put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store), [[0]])
    engine = FakeEngine()
    engine.refused.add("digest-0")
    with pytest.raises(SwapRefusedError):
        handler(store, engine)(generate_item("run", step), FIRST)
    assert not store.exists(layout.rollouts(step, 0))


def test_rollouts_that_saw_two_versions_are_thrown_away(store: DirectoryStore) -> None:
    """An engine that changes under the gate, as one restarted from outside would."""
    put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store), [[0]])
    engine = FakeEngine()

    def during(what: str) -> None:
        if what == "generate":
            engine.live = version(store, 9)

    engine.during = during
    with pytest.raises(EngineError, match="run/v9@digest-9 after generating"):
        handler(store, engine)(generate_item("run", step), FIRST)
    assert not store.exists(layout.rollouts(step, 0))


def not_a_number(completion: Completion) -> Completion:
    return replace(completion, log_probs=[math.nan, *completion.log_probs[1:]])


def positive(completion: Completion) -> Completion:
    return replace(completion, log_probs=[0.5, *completion.log_probs[1:]])


def one_too_few(completion: Completion) -> Completion:
    return replace(completion, log_probs=completion.log_probs[1:])


def without_tokens(completion: Completion) -> Completion:
    return replace(completion, token_ids=[], log_probs=[])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (not_a_number, "not finite"),
        (positive, "above 0"),
        (one_too_few, "one log-prob for each token"),
        (without_tokens, "no tokens"),
    ],
)
def test_what_must_not_be_stored_is_refused(
    store: DirectoryStore, spoil: Callable[[Completion], Completion], reason: str
) -> None:
    put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store), [[0]])
    with pytest.raises(EngineError, match=f"p0: response 0 .*{reason}"):
        handler(store, SpoilingEngine(spoil))(generate_item("run", step), FIRST)
    assert not store.exists(layout.rollouts(step, 0))


def test_a_response_of_only_a_stop_token_is_an_empty_text(store: DirectoryStore) -> None:
    put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store), [[0]])
    engine = SpoilingEngine(lambda c: Completion([0], [-1.0], "stop"))
    handler(store, engine)(generate_item("run", step), FIRST)
    (rollout,) = read_table(store, layout.rollouts(step, 0), Rollout)
    assert (rollout.responses[0], rollout.response_ids[0], rollout.finish_reasons[0]) == ("", [0], "stop")


def test_work_that_cannot_be_done_says_what_is_missing(store: DirectoryStore) -> None:
    generate = handler(store, FakeEngine())
    with pytest.raises(MissingArtifactError, match=r"plan\.json"):
        generate(generate_item("run", layout.half_step("run", 1, 1)), FIRST)
    create_model(store, layout.plan(layout.base("run")), BasePlan(run="run", model=ModelSpec(path="m")))
    with pytest.raises(CorruptArtifactError, match="samples nothing"):
        generate(generate_item("run", layout.base("run")), FIRST)
    put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store), [[0], [99]])
    with pytest.raises(CorruptArtifactError, match="no shard 2"):
        generate(generate_item("run", step, 2), FIRST)
    with pytest.raises(CorruptArtifactError, match="rows that no prompt has"):
        generate(generate_item("run", step, 1), FIRST)


def test_a_response_that_leaves_no_room_for_prompts_names_the_setting(store: DirectoryStore) -> None:
    put_prompts(store, "run", TEXTS)
    step = put_half_step(store, version(store, context=8), [[0]])
    with pytest.raises(ValueError, match=r"sampling\.max_new_tokens = 8"):
        handler(store, FakeEngine())(generate_item("run", step), FIRST)
