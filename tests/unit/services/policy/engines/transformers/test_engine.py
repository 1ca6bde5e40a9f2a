# torch and transformers are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The in-process engine on tiny real models."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from services.policy.engine import EngineError, GenerationRequest, Sampling, SwapRefusedError
from services.policy.engines.transformers.engine import TransformersEngine
from services.policy.settings import PolicySettings
from shared.contracts.weights import WeightVersion
from shared.store.artifacts.store import DirectoryStore
from tests.support import tiny_models
from tests.support.tiny_models import BOS, EOS, VOCAB_SIZE

PROMPTS = [[BOS, 20, 30], [BOS, 40], [BOS, 50, 60, 70, 80, 90]]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def engine_on(store: DirectoryStore, model: Path, max_batch_rows: int = 128) -> TransformersEngine:
    engine = TransformersEngine(PolicySettings(device="cpu", num_threads=1, max_batch_rows=max_batch_rows))
    version = tiny_models.publish(store, "run", 0, model)
    engine.swap_weights(store.path(version.directory), version)
    return engine


def requests(num_seeds: int) -> list[GenerationRequest]:
    return [GenerationRequest(ids, [100 * i + s for s in range(num_seeds)]) for i, ids in enumerate(PROMPTS)]


def test_an_engine_without_weights_says_so() -> None:
    engine = TransformersEngine(PolicySettings(device="cpu", num_threads=1))
    assert engine.live_version() is None
    with pytest.raises(EngineError, match="no weights"):
        engine.generate(requests(1), Sampling(4))


def test_the_same_seeds_give_the_same_tokens_whatever_the_batch(store: DirectoryStore, tmp_path: Path) -> None:
    """Three prompts of unequal length: all in one batch, in batches of two, and one response at a time."""
    model = tiny_models.make_model(tmp_path / "model", seed=1)
    sampling = Sampling(12, temperature=0.9, top_p=0.95)
    together = engine_on(store, model).generate(requests(4), sampling)
    narrow = engine_on(store, model, max_batch_rows=2)
    assert [[c.token_ids for c in row] for row in narrow.generate(requests(4), sampling)] == [
        [c.token_ids for c in row] for row in together
    ]
    for request, row in zip(requests(4), together, strict=True):
        for seed, completion in zip(request.seeds, row, strict=True):
            alone = narrow.generate([GenerationRequest(request.prompt_ids, [seed])], sampling)[0][0]
            assert alone.token_ids == completion.token_ids
            assert alone.log_probs == pytest.approx(completion.log_probs, abs=1e-4)


def test_different_seeds_give_different_responses(store: DirectoryStore, tmp_path: Path) -> None:
    engine = engine_on(store, tiny_models.make_model(tmp_path / "model", seed=1))
    responses = [
        tuple(c.token_ids) for c in engine.generate([GenerationRequest([BOS, 9], list(range(16)))], Sampling(8))[0]
    ]
    assert len(set(responses)) == 16


@pytest.mark.parametrize(
    "sampling", [Sampling(16), Sampling(16, temperature=0.5, top_p=0.7)], ids=["plain", "tempered"]
)
def test_log_probs_are_the_raw_policys(store: DirectoryStore, tmp_path: Path, sampling: Sampling) -> None:
    """Whatever the sampling settings: equal to one direct transformers forward over prompt + response."""
    model = tiny_models.make_model(tmp_path / "model", seed=2)
    engine = engine_on(store, model)
    for request, row in zip(requests(3), engine.generate(requests(3), sampling), strict=True):
        sequences = [request.prompt_ids + completion.token_ids for completion in row]
        direct = tiny_models.direct_log_probs(model, sequences)
        for completion, expected in zip(row, direct, strict=True):
            assert completion.log_probs == pytest.approx(expected[len(request.prompt_ids) - 1 :], abs=1e-4)


def test_scores_equal_a_direct_forward(store: DirectoryStore, tmp_path: Path) -> None:
    model = tiny_models.make_model(tmp_path / "model", seed=3)
    sequences = [[BOS], [BOS, 7], [BOS, 7, 8, 9, 10, 11, 12], [5, 6, 7], [BOS, EOS, 0, 0]]
    scores = engine_on(store, model, max_batch_rows=2).score(sequences)
    for score, expected in zip(scores, tiny_models.direct_log_probs(model, sequences), strict=True):
        assert score == pytest.approx(expected, abs=1e-4)


def test_sampled_tokens_follow_the_softmax(store: DirectoryStore, tmp_path: Path) -> None:
    """4,000 first tokens against softmax(logits).

    With n = 4,000 the chi-square statistic over the tokens expected at least 5 times has mean d and standard deviation
    sqrt(2 d), d being their number; 5 deviations above the mean is beyond one in a million. The seeds are fixed.
    """
    model = tiny_models.make_model(tmp_path / "model", seed=4)
    num = 4000
    completions = engine_on(store, model).generate([GenerationRequest([BOS, 33], list(range(num)))], Sampling(1))[0]
    counts = Counter(completion.token_ids[0] for completion in completions)
    direct = tiny_models.direct_log_probs(model, [[BOS, 33, token] for token in range(VOCAB_SIZE)])
    expected = np.array([num * math.exp(row[-1]) for row in direct])
    seen = np.array([counts[token] for token in range(VOCAB_SIZE)])
    common = expected >= 5
    chi_square = float((((seen - expected) ** 2 / expected)[common]).sum())
    assert chi_square < common.sum() + 5 * math.sqrt(2 * common.sum())
    assert expected.sum() == pytest.approx(num, rel=1e-4)


def test_top_p_keeps_the_smallest_set_that_reaches_it(store: DirectoryStore, tmp_path: Path) -> None:
    """No sampled first token lies outside the smallest set of most likely tokens with a mass of at least 0.3."""
    model = tiny_models.make_model(tmp_path / "model", seed=4)
    request = GenerationRequest([BOS, 33], list(range(300)))
    completions = engine_on(store, model).generate([request], Sampling(1, top_p=0.3))[0]
    direct = tiny_models.direct_log_probs(model, [[BOS, 33, token] for token in range(VOCAB_SIZE)])
    probabilities = np.exp([row[-1] for row in direct])
    order = np.argsort(-probabilities)
    nucleus = set(order[: int(np.searchsorted(np.cumsum(probabilities[order]), 0.3)) + 1].tolist())
    assert {completion.token_ids[0] for completion in completions} == nucleus


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_a_response_ends_with_the_stop_token_it_produced_or_at_its_length(
    store: DirectoryStore, tmp_path: Path, pad_is_eos: bool
) -> None:
    """Stop tokens are the EOS of config.json (2) and those of generation_config.json: here every 5th of 259 ids.

    About a fifth of the tokens then stop a response, so of 72 responses of at most 6 tokens both kinds occur.
    """
    stops = {EOS, *range(0, VOCAB_SIZE, 5)}
    model = tiny_models.make_model(tmp_path / "model", seed=5, pad_is_eos=pad_is_eos)
    shipped = {"eos_token_id": sorted(stops - {EOS})}
    (model / "generation_config.json").write_text(json.dumps(shipped))
    found = engine_on(store, model).generate(requests(24), Sampling(6))
    assert {completion.finish_reason for row in found for completion in row} == {"stop", "length"}
    for completion in (completion for row in found for completion in row):
        stopped = completion.finish_reason == "stop"
        assert (completion.token_ids[-1] in stops) == stopped
        assert not stops & set(completion.token_ids[:-1])
        assert stopped or len(completion.token_ids) == 6
        assert len(completion.log_probs) == len(completion.token_ids)


def test_a_shipped_generation_config_does_not_change_the_policy(store: DirectoryStore, tmp_path: Path) -> None:
    """The same tokens with and without a repetition penalty, top-k and temperature in generation_config.json."""
    model = tiny_models.make_model(tmp_path / "model", seed=6)
    plain = engine_on(store, model).generate(requests(2), Sampling(8))
    shipped = {"eos_token_id": EOS, "repetition_penalty": 5.0, "top_k": 1, "temperature": 0.1, "do_sample": True}
    (model / "generation_config.json").write_text(json.dumps(shipped))
    assert engine_on(store, model).generate(requests(2), Sampling(8)) == plain


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [([], "without tokens"), ([BOS, 259], "vocabulary"), ([-1], "vocabulary"), ([BOS] * 250, "context")],
    ids=["empty", "unknown id", "negative id", "over-long"],
)
def test_a_prompt_that_cannot_be_continued_is_an_error(
    store: DirectoryStore, tmp_path: Path, prompt: list[int], reason: str
) -> None:
    engine = engine_on(store, tiny_models.make_model(tmp_path / "model", seed=1))
    with pytest.raises(EngineError, match=reason):
        engine.generate([GenerationRequest(prompt, [1])], Sampling(8))


def _beside(store: DirectoryStore, tmp_path: Path) -> tuple[TransformersEngine, WeightVersion, Path, Path]:
    """An engine on one model that holds another one beside it."""
    live = tiny_models.make_model(tmp_path / "live", seed=1)
    other = tiny_models.make_model(tmp_path / "other", seed=2)
    engine = engine_on(store, live)
    version = tiny_models.publish(store, "run", 1, other)
    engine.hold(store.path(version.directory), version)
    return engine, version, live, other


def test_every_token_is_drawn_from_the_renormalised_mixture(store: DirectoryStore, tmp_path: Path) -> None:
    """Replayed by plain forwards of both models: the draw of each step lies in its token's share of the mixture.

    The mixture is held^.3 live^.7, normalised at each token; prompts of unequal length share a batch, so that padding
    or a cache out of step would show. What is stored are the live policy's own log-probs.
    """
    engine, held, live, other = _beside(store, tmp_path)
    rows = engine.generate_mixed(requests(3), Sampling(8), held, 0.3)
    for request, row in zip(requests(3), rows, strict=True):
        for seed, completion in zip(request.seeds, row, strict=True):
            ids = request.prompt_ids + completion.token_ids
            mixed = 0.7 * _all_log_probs(live, ids) + 0.3 * _all_log_probs(other, ids)
            draws = np.random.Generator(np.random.Philox(key=seed)).random(8)
            for step, token in enumerate(completion.token_ids):
                weights = np.exp(mixed[len(request.prompt_ids) - 1 + step])
                cdf = np.cumsum(weights / weights.sum())
                assert cdf[token] - weights[token] / weights.sum() - 1e-4 <= draws[step] <= cdf[token] + 1e-4
            direct = tiny_models.direct_log_probs(live, [ids])[0][len(request.prompt_ids) - 1 :]
            assert completion.log_probs == pytest.approx(direct, abs=1e-4)


def test_mixing_with_itself_changes_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    engine = engine_on(store, tiny_models.make_model(tmp_path / "model", seed=1))
    version = tiny_models.publish(store, "run", 1, tmp_path / "model")
    engine.hold(store.path(version.directory), version)
    mixed = engine.generate_mixed(requests(3), Sampling(8), version, 0.5)
    plain = engine.generate(requests(3), Sampling(8))
    assert [[c.token_ids for c in row] for row in mixed] == [[c.token_ids for c in row] for row in plain]


def test_what_is_held_is_verified_and_survives_swaps_and_refusals(store: DirectoryStore, tmp_path: Path) -> None:
    engine, held, live, _ = _beside(store, tmp_path)
    broken = tiny_models.publish(store, "run", 2, live)
    (store.path(broken.directory) / "model.safetensors").write_bytes(b"")
    with pytest.raises(SwapRefusedError):
        engine.hold(store.path(broken.directory), broken)
    with pytest.raises(EngineError, match=r"asked to mix with run/v2@.*, but run/v1@.* is held"):
        engine.generate_mixed(requests(1), Sampling(4), broken, 0.5)
    later = tiny_models.publish(store, "run", 3, live)
    engine.swap_weights(store.path(later.directory), later)
    assert len(engine.generate_mixed(requests(1), Sampling(4), held, 0.5)) == len(PROMPTS)


def _all_log_probs(directory: Path, ids: list[int]) -> NDArray[np.float64]:
    """Log p [T, V] after every token, by one plain forward."""
    model = AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32).eval()
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=-1).double().numpy()
