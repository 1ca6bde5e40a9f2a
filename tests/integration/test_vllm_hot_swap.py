"""Hot swap into a real vLLM server: exact when it succeeds, as if it had never been tried when it is refused."""

import itertools
import math
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.policy.engine import Completion, EngineError, GenerationRequest, Sampling, SwapRefusedError
from services.policy.engines.vllm.engine import VllmEngine
from services.policy.settings import PolicySettings
from services.policy.swapping.gate import Gate
from shared.contracts.weights import WeightVersion
from shared.store.artifacts.store import DirectoryStore
from tests.support import broken_weights, tiny_models
from tests.support.broken_weights import broken_version, edited
from tests.support.tiny_models import BOS, EOS
from tests.support.vllm_server import supervised_vllm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEQUENCES = [[BOS, 11, 22, 33, 44, 55], [BOS, 200, 100], [9, 8, 7, 6, 5, 4, 3]]
# vLLM's attention on a CPU takes heads of at least 32.
HIDDEN_SIZE = 128


@dataclass(frozen=True)
class Served:
    """An engine over a server that was started on `models[0]`; `versions` are published, the second from the first."""

    settings: PolicySettings
    engine: VllmEngine
    store: DirectoryStore
    models: list[Path]
    versions: list[WeightVersion]
    scratch: Path
    tied: bool

    def swap(self, version: WeightVersion) -> None:
        self.engine.swap_weights(self.store.path(version.directory), version)

    def assert_serves(self, number: int) -> None:
        """The engine's scores equal a direct transformers forward within 1e-4."""
        assert self.engine.live_version() == self.versions[number]
        expected = tiny_models.direct_log_probs(self.models[number], SEQUENCES)
        assert distance(self.engine.score(SEQUENCES), expected) <= 1e-4


def distance(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    return max(abs(x - y) for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True))


# A group for each server, or chance would start them anew in the middle.
TIED = pytest.param(True, id="tied", marks=pytest.mark.xdist_group("vllm_tied"))
UNTIED = pytest.param(False, id="untied", marks=pytest.mark.xdist_group("vllm_untied"))


@pytest.fixture(scope="module", params=[TIED, UNTIED])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    path = tmp_path_factory.mktemp("vllm")
    tied: bool = request.param
    old_model = tiny_models.make_model(path / "old", seed=1, tied=tied, hidden_size=HIDDEN_SIZE)
    new_model = tiny_models.perturb(old_model, path / "new", seed=2)
    store = DirectoryStore(path / "store")
    old = tiny_models.publish(store, "run", 0, old_model)
    new = tiny_models.publish(store, "run", 1, new_model, parent=old)
    with supervised_vllm(old_model, path / "state") as (settings, _), closing(VllmEngine(settings)) as engine:
        yield Served(settings, engine, store, [old_model, new_model], [old, new], path, tied)


def test_after_a_swap_the_engine_computes_the_new_log_probs(served: Served) -> None:
    """Forth, back and forth again, within 1e-4 of transformers; old and new differ by more than 100 times that."""
    for number in (0, 1, 0, 1):
        served.swap(served.versions[number])
        served.assert_serves(number)
    far = distance(served.engine.score(SEQUENCES), tiny_models.direct_log_probs(served.models[0], SEQUENCES))
    assert far > 1e-2


def test_log_probs_of_responses_are_the_policys_own_and_seeds_decide_the_tokens(served: Served) -> None:
    """Log-probs at temperature 1, whatever it is sampled at; seeds that do not follow one another are no different.

    Seeds [3, 4, 5] go to the server as one request, [5, 3] and [4] as others: every seed gives the tokens it gave.
    """
    served.swap(served.versions[1])
    prompt = [BOS, 70, 71, 72]
    sampling = Sampling(max_new_tokens=24, temperature=0.7, top_p=0.9)
    ((a, b, c),) = served.engine.generate([GenerationRequest(prompt, [3, 4, 5])], sampling)
    (c2, a2), (b2,) = served.engine.generate(
        [GenerationRequest(prompt, [5, 3]), GenerationRequest(prompt, [4])], sampling
    )
    assert [x.token_ids for x in (a, b, c)] == [x.token_ids for x in (a2, b2, c2)]
    assert len({tuple(x.token_ids) for x in (a, b, c)}) == 3
    assert_of_model(served.models[1], prompt, [a, b, c])


def assert_of_model(model: Path, prompt: list[int], completions: Sequence[Completion]) -> None:
    direct = tiny_models.direct_log_probs(model, [prompt + completion.token_ids for completion in completions])
    expected = [row[len(prompt) - 1 :] for row in direct]
    assert distance([completion.log_probs for completion in completions], expected) <= 1e-4


def test_the_stop_token_ends_a_response_and_belongs_to_it(served: Served) -> None:
    """EOS has a probability of about 1/259 a token: among 64 responses of up to 200 tokens many stop, some may not."""
    served.swap(served.versions[0])
    ((*completions,),) = served.engine.generate([GenerationRequest([BOS, 5], list(range(64)))], Sampling(200))
    stopped = [completion for completion in completions if completion.finish_reason == "stop"]
    assert stopped
    for completion in completions:
        ends = completion.token_ids[-1] == EOS
        assert ends == (completion.finish_reason == "stop")
        assert EOS not in completion.token_ids[:-1]
        assert ends or len(completion.token_ids) == 200


def test_many_long_seeded_prompts_at_once_do_not_end_the_engine(served: Served) -> None:
    """96 prompts of 200 tokens are more than the server computes in one step: it must not cut one in two.

    vLLM 0.32 on a CPU cannot wind back the generator of a seeded request whose prompt is computed in pieces.
    """
    served.swap(served.versions[0])
    prompts = [[BOS, *(3 + (7 * i + j) % 250 for j in range(199))] for i in range(96)]
    found = served.engine.generate(
        [GenerationRequest(prompt, [i, i + 1]) for i, prompt in enumerate(prompts)], Sampling(4)
    )
    assert [len(row) for row in found] == [2] * 96
    assert_of_model(served.models[0], prompts[5], found[5])


def test_a_prompt_that_leaves_no_room_is_an_error_and_the_engine_serves_on(served: Served) -> None:
    served.swap(served.versions[0])
    with pytest.raises(EngineError, match="256"):
        served.engine.generate([GenerationRequest([BOS] * 250, [1])], Sampling(50))
    served.assert_serves(0)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated file": (broken_weights.truncated, "truncated"),
    "missing tensor": (edited(broken_weights.drop_tensor), "up_proj.weight is missing"),
    "extra tensor": (edited(broken_weights.add_tensor), "extra.weight is not one of"),
    "NaN weight": (edited(broken_weights.poison), "q_proj.weight holds NaN"),
    "infinite weight outside the canary": (edited(broken_weights.poison_unused_row), "embed_tokens.weight holds NaN"),
    "other shape": (edited(broken_weights.reshape), "up_proj.weight is"),
    "other weights than the canary's": (edited(broken_weights.nudge), "computes another model"),
    "no weights file": (broken_weights.without_file("model.safetensors"), "no safetensors"),
    "no canary": (broken_weights.without_file("canary.json"), "canary.json"),
}


def faulty(served: Served, fault: str) -> WeightVersion:
    new_model = served.models[1]
    return broken_version(served.store, served.versions[0], new_model, FAULTS[fault][0])


def test_faulty_weights_are_refused_and_the_old_version_serves_on_bit_identically(served: Served) -> None:
    """Each of the faults, the old version's log-probs being the same floats before and after."""
    served.swap(served.versions[0])
    before = served.engine.score(SEQUENCES)
    for fault, (_, reason) in FAULTS.items():
        with pytest.raises(SwapRefusedError, match=reason):
            served.swap(faulty(served, fault))
        assert served.engine.live_version() == served.versions[0], fault
        assert served.engine.score(SEQUENCES) == before, fault
    served.assert_serves(0)


def test_a_model_with_another_output_head_is_refused(served: Served) -> None:
    """Untied weights into a tied engine (vLLM would take them and drop the head), and the other way round."""
    served.swap(served.versions[0])
    before = served.engine.score(SEQUENCES)
    other = tiny_models.make_model(served.scratch / "other-head", seed=3, tied=not served.tied, hidden_size=HIDDEN_SIZE)
    version = tiny_models.publish(served.store, "other", 0, other)
    with pytest.raises(SwapRefusedError, match=r"lm_head\.weight"):
        served.swap(version)
    assert served.engine.score(SEQUENCES) == before


def test_of_a_thousand_requests_during_swaps_none_is_lost_or_mixed(served: Served) -> None:
    """Eight threads generate under whatever version is current, while swaps of good and faulty weights are tried.

    Every response's log-probs must be those of the version that it was asked under, by a direct forward; a response
    that the other version had a part in would be off by far more than 1e-4.
    """
    old, new = served.versions
    # Minutes pass between any two looks at the clock, or what is refused would be given up instead of tried.
    minutes = itertools.count(0.0, 60.0).__next__
    gate = Gate(served.engine, lambda version: served.store.path(version.directory), clock=minutes)
    gate.ensure(old)
    current = [0]
    counted = iter(range(1000))
    lock = threading.Lock()
    rows: list[tuple[int, list[int], Completion]] = []
    bad = [faulty(served, fault) for fault in FAULTS]

    def generate() -> None:
        while True:
            with lock:
                index = next(counted, None)
            if index is None:
                return
            number = current[0]
            prompt = [BOS, 3 + index % 250, 3 + index // 250]
            with gate.serving(served.versions[number]) as engine:
                ((completion,),) = engine.generate([GenerationRequest(prompt, [index])], Sampling(12))
            with lock:
                rows.append((number, prompt, completion))

    swaps = 0
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(generate) for _ in range(8)]
        while not all(future.done() for future in running):
            with pytest.raises(SwapRefusedError):
                gate.ensure(bad[swaps % len(bad)])
            current[0] = 1 - current[0]
            swaps += 1
        for future in running:
            future.result()
    assert len(rows) == 1000
    assert swaps >= len(bad)
    assert {number for number, _, _ in rows} == {0, 1}
    for number, model in enumerate(served.models):
        mine = [(prompt, completion) for n, prompt, completion in rows if n == number]
        direct = tiny_models.direct_log_probs(model, [prompt + completion.token_ids for prompt, completion in mine])
        worst = max(
            abs(a - b)
            for row, (prompt, completion) in zip(direct, mine, strict=True)
            for a, b in zip(row[len(prompt) - 1 :], completion.log_probs, strict=True)
        )
        assert worst <= 1e-4
    assert math.isfinite(served.engine.score(SEQUENCES)[0][0])
    assert served.engine.live_version() in (old, new)


def test_a_label_that_this_process_did_not_give_serves_nothing(served: Served) -> None:
    """Another policy process has swapped the server: its weights may be right, but they are not verified here."""
    served.swap(served.versions[0])
    with closing(VllmEngine(served.settings)) as stranger:
        assert stranger.live_version() is None
        stranger.swap_weights(served.store.path(served.versions[1].directory), served.versions[1])
    assert served.engine.live_version() is None
    with pytest.raises(EngineError, match="instead of"):
        served.engine.generate([GenerationRequest([BOS], [1])], Sampling(2))
    served.swap(served.versions[0])
    served.assert_serves(0)
