"""The vllm engine against a fake server over real HTTP: every way in which a server can fail."""

import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from services.policy.engine import (
    EngineError,
    EngineUnavailableError,
    GenerationRequest,
    Sampling,
    SwapRefusedError,
)
from services.policy.engines.vllm.engine import VllmEngine
from services.policy.settings import PolicySettings
from services.policy.swapping.gate import Gate
from shared.contracts.weights import WeightVersion
from shared.runtime.device_lock import DeviceLock, SharedDevice
from shared.runtime.key_files import write_private
from shared.store.artifacts.store import DirectoryStore
from tests.support import tiny_models
from tests.support.fake_vllm import DEAD, DROPPED, FakeVllm, fake_vllm
from tests.support.vllm_server import unused_url
from tests.support.waiting import wait_until

REQUEST = GenerationRequest([1, 5], [7, 8, 9])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    path = tmp_path_factory.mktemp("models")
    old = tiny_models.make_model(path / "old", seed=1)
    return [old, tiny_models.perturb(old, path / "new", seed=2)]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def versions(store: DirectoryStore, models: list[Path]) -> list[WeightVersion]:
    old = tiny_models.publish(store, "run", 0, models[0])
    return [old, tiny_models.publish(store, "run", 1, models[1], parent=old)]


@pytest.fixture
def server(models: list[Path]) -> Generator[FakeVllm]:
    with fake_vllm(models[0]) as fake:
        yield fake


@pytest.fixture
def make_engine() -> Generator[Callable[..., VllmEngine]]:
    """Engines over a server, by its address and settings; closed after the test."""
    made: list[VllmEngine] = []

    def make(url: str, **settings: object) -> VllmEngine:
        made.append(VllmEngine(PolicySettings.model_validate({"vllm_url": url, **settings})))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(server: FakeVllm, make_engine: Callable[..., VllmEngine]) -> VllmEngine:
    return make_engine(server.url)


def swap(engine: VllmEngine, store: DirectoryStore, version: WeightVersion) -> None:
    engine.swap_weights(store.path(version.directory), version)


def test_a_swap_pauses_loads_clears_labels_and_resumes_before_the_canary_is_asked(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    swap(engine, store, versions[0])
    steps = [call for call in server.calls() if call not in ("served_model", "/weight_info")]
    loading = ["/pause", "swap_weights", "/reset_prefix_cache", "/update_weight_version", "/resume"]
    assert steps == [*loading, *["/v1/completions"] * len(tiny_models.CANARY_SEQUENCES)]
    assert engine.live_version() == versions[0]


def test_consecutive_seeds_are_one_request_and_every_other_seed_is_its_own(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    swap(engine, store, versions[0])
    server.asked.clear()
    ((*found,),) = engine.generate([GenerationRequest([1, 5], [7, 8, 20, 9])], Sampling(2, 0.7, 0.9))
    asked = [body for path, body in server.asked if path == "/v1/completions"]
    assert sorted((body["seed"], body["n"]) for body in asked) == [(7, 2), (9, 1), (20, 1)]
    assert [completion.token_ids[0] for completion in found] == [7, 8, 20, 9]
    (salt,) = {body["cache_salt"] for body in asked}
    assert salt == server.label
    assert {(body["temperature"], body["top_p"], tuple(body["stop_token_ids"])) for body in asked} == {(0.7, 0.9, (2,))}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"choices": []}, "0 of 3 responses"),
        ({"choices": [{"index": 0, "finish_reason": "abort", "token_ids": [1]}]}, "1 of 3 responses"),
        ({"choices": [{"index": i, "finish_reason": "abort", "token_ids": [1]} for i in range(3)]}, "aborted"),
        ({"choices": [{"index": i, "finish_reason": "stop"} for i in range(3)]}, "no token ids"),
        (
            {
                "choices": [
                    {"index": i, "finish_reason": "stop", "token_ids": [1, 2], "logprobs": {"token_logprobs": [-1.0]}}
                    for i in range(3)
                ]
            },
            "1 log-probs for 2 tokens",
        ),
        (
            {
                "choices": [
                    {"index": i, "finish_reason": "stop", "token_ids": [1], "logprobs": {"token_logprobs": [None]}}
                    for i in range(3)
                ]
            },
            "token_logprobs.0",
        ),
        ("no object", "not usable"),
    ],
)
def test_an_answer_that_must_not_be_stored_is_an_error(
    engine: VllmEngine,
    server: FakeVllm,
    store: DirectoryStore,
    versions: list[WeightVersion],
    answer: object,
    reason: str,
) -> None:
    swap(engine, store, versions[0])
    server.fail("/v1/completions", (200, answer))
    with pytest.raises(EngineError, match=reason):
        engine.generate([REQUEST], Sampling(2))
    assert len(engine.generate([REQUEST], Sampling(2))[0]) == 3


def test_an_error_is_raised_only_when_no_request_is_running_any_more(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    """One request is rejected at once while another is held: a swap that followed would meet the other."""
    swap(engine, store, versions[0])
    held, rejected = threading.Event(), threading.Event()
    first = threading.Lock()

    def hold_all_but_one(path: str) -> None:
        if path == "/v1/completions" and not first.acquire(blocking=False):
            held.wait(30)

    server.during = hold_all_but_one
    server.fail("/v1/completions", (400, {"error": "no room"}))
    failure: list[EngineError] = []

    def generate() -> None:
        try:
            engine.generate([REQUEST, GenerationRequest([1, 6], [1])], Sampling(2))
        except EngineError as error:
            failure.append(error)
            rejected.set()

    thread = threading.Thread(target=generate)
    thread.start()
    assert not rejected.wait(0.3)
    held.set()
    thread.join()
    assert "400" in str(failure[0])


@pytest.mark.parametrize("step", ["/pause", "swap_weights", "/reset_prefix_cache", "/update_weight_version", "/resume"])
def test_a_swap_that_fails_at_any_step_loads_and_verifies_the_last_good_version_again(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion], step: str
) -> None:
    swap(engine, store, versions[0])
    server.fail(step, (500, {"error": {"message": "Worker failed with error 'no'"}}))
    with pytest.raises(SwapRefusedError, match="Worker failed"):
        swap(engine, store, versions[1])
    assert engine.live_version() == versions[0]
    assert server.loaded == store.path(versions[0].directory)
    assert not server.paused
    swap(engine, store, versions[1])
    assert engine.live_version() == versions[1]


def test_a_server_that_keeps_its_old_head_is_found_out_by_the_canary(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    """What vLLM's own reload does to a tied model on a CPU, without a word."""
    swap(engine, store, versions[0])
    server.during = lambda path: setattr(server, "old_head", server.loaded == store.path(versions[1].directory))
    with pytest.raises(SwapRefusedError, match="still computes the old log-probs"):
        swap(engine, store, versions[1])
    assert engine.live_version() == versions[0]


def test_a_server_that_cannot_go_back_is_ended_and_converges_once_it_is_back(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    swap(engine, store, versions[0])
    server.fail("swap_weights", (500, {"error": "shape"}), (500, {"error": "shape"}))
    with pytest.raises(SwapRefusedError, match="shape"):
        swap(engine, store, versions[1])
    assert "end_server" in server.calls()
    assert not server.healthy
    server.restart()
    assert engine.live_version() is None
    swap(engine, store, versions[1])
    assert engine.live_version() == versions[1]


def test_the_first_version_failing_ends_the_server_too(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    """There is nothing to go back to, and what is loaded is not known."""
    server.fail("swap_weights", (500, {"error": "shape"}))
    with pytest.raises(SwapRefusedError, match="shape"):
        swap(engine, store, versions[0])
    assert not server.healthy


def test_a_restarted_server_serves_nothing_until_it_is_swapped_again(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    gate = Gate(engine, lambda version: store.path(version.directory))
    gate.ensure(versions[1])
    server.restart()
    assert engine.live_version() is None
    with pytest.raises(EngineUnavailableError, match="started again"):
        engine.generate([REQUEST], Sampling(2))
    with gate.serving(versions[1]) as serving:
        serving.generate([REQUEST], Sampling(2))
    assert server.loaded == store.path(versions[1].directory)


def test_a_server_that_is_started_again_under_a_request_takes_its_answer_along(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    """The label is asked after the answers as well: here it changes while they are made."""
    swap(engine, store, versions[0])
    server.during = lambda path: server.restart() if path == "/v1/completions" else None
    with pytest.raises(EngineUnavailableError, match="started again"):
        engine.generate([REQUEST], Sampling(2))


@pytest.mark.parametrize("fault", [DROPPED, DEAD], ids=["connection dropped", "engine dead"])
def test_a_server_that_dies_under_a_request_is_waited_for(
    engine: VllmEngine,
    server: FakeVllm,
    store: DirectoryStore,
    versions: list[WeightVersion],
    fault: tuple[int, object],
) -> None:
    swap(engine, store, versions[0])
    server.fail("/v1/completions", fault, fault)
    server.during = lambda path: setattr(server, "healthy", server.healthy and path != "/v1/completions")
    with pytest.raises(EngineUnavailableError, match="away"):
        engine.generate([REQUEST], Sampling(2))


def test_a_server_that_is_away_for_longer_than_the_patience_is_an_error_with_the_remedy(
    make_engine: Callable[..., VllmEngine],
) -> None:
    url = unused_url()
    engine = make_engine(url, vllm_patience_s=0.0)
    version = WeightVersion(run="run", number=0, digest="0" * 64, directory="weights")
    with pytest.raises(EngineError):
        engine.stage(Path("/nowhere"), version)
    with pytest.raises(EngineError, match=f"{url} has not answered .* start it, or set INPO_VLLM_URL") as caught:
        engine.stage(Path("/nowhere"), version)
    assert not isinstance(caught.value, EngineUnavailableError)


def test_a_server_without_the_extension_is_told_how_to_be_started(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    server.fail("served_model", (404, {"detail": "Not Found"}))
    with pytest.raises(EngineError, match=r"VLLM_SERVER_DEV_MODE=1.*services\.policy\.engines\.vllm\.serving"):
        swap(engine, store, versions[0])


def test_a_key_is_sent_and_a_wrong_one_is_named_by_its_setting_and_never_shown(
    make_engine: Callable[..., VllmEngine],
    server: FakeVllm,
    store: DirectoryStore,
    versions: list[WeightVersion],
    tmp_path: Path,
) -> None:
    file = tmp_path / "key"
    write_private(file, "sesame\n")
    server.key = "sesame"
    swap(make_engine(server.url, vllm_api_key_file=file), store, versions[0])
    write_private(file, "guess\n")
    with pytest.raises(EngineError, match="INPO_VLLM_API_KEY_FILE") as caught:
        swap(make_engine(server.url, vllm_api_key_file=file), store, versions[0])
    assert "guess" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot read"):
        make_engine(server.url, vllm_api_key_file=tmp_path / "absent")


def test_generating_before_any_swap_is_an_error(engine: VllmEngine, server: FakeVllm) -> None:
    assert engine.live_version() is None
    with pytest.raises(EngineError, match="no weights are loaded yet"):
        engine.generate([REQUEST], Sampling(2))


def test_below_float32_a_small_batch_is_tried_before_anything_is_loaded(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    server.dtype = "bfloat16"
    swap(engine, store, versions[0])
    assert server.calls().index("/v1/completions") < server.calls().index("/pause")


def test_a_server_that_dies_of_the_small_batch_is_a_counted_error_with_the_remedy(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    """VLLM in bfloat16 on a CPU, with some small models: SIGILL at the first batch."""
    server.dtype = "bfloat16"
    server.during = lambda path: setattr(server, "healthy", server.healthy and path != "/v1/completions")
    with pytest.raises(EngineError, match=r"died of a first small batch in bfloat16.*Use float32") as caught:
        swap(engine, store, versions[0])
    assert not isinstance(caught.value, EngineUnavailableError)
    assert "/pause" not in server.calls()


def test_a_connection_that_the_server_closed_is_opened_again(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion]
) -> None:
    """Uvicorn closes a connection on which an error was answered; whoever takes it from the pool meets its end."""
    swap(engine, store, versions[0])
    server.fail("/weight_info", DROPPED)
    assert engine.live_version() == versions[0]


def test_a_shared_accelerator_is_had_and_the_server_awake_whenever_it_is_asked_and_rests_afterwards(
    engine: VllmEngine, server: FakeVllm, store: DirectoryStore, versions: list[WeightVersion], tmp_path: Path
) -> None:
    file = tmp_path / "device.lock"
    device = SharedDevice(DeviceLock(file), wake=engine.wake, rest=engine.rest, idle_s=0.05)
    asleep: list[str] = []
    server.during = lambda path: asleep.append(path) if server.sleeping and path != "/wake_up" else None
    for version in versions:
        with device.working():
            swap(engine, store, version)
            assert len(engine.generate([REQUEST], Sampling(2))[0]) == 3
        wait_until(lambda: server.sleeping, 20.0, "the server to rest")
    assert asleep == []
    with DeviceLock(file).held() as had:
        assert had
