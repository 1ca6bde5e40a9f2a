"""The `vllm` engine: see `Engine`. Needs neither vLLM nor torch in this process.

A version serves when this process itself has verified it: the server then carries a label that only this process
knows. A server that was started again, or that somebody else has swapped, carries another one and serves nothing.
One policy process for each server: two would take each other's versions away, though neither would notice too late.
"""

import math
import uuid
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from services.policy.engine import (
    Completion,
    EngineError,
    EngineUnavailableError,
    GenerationRequest,
    Sampling,
    SwapRefusedError,
)
from services.policy.engines.vllm.answers import Choice, Completions, ServedModel
from services.policy.engines.vllm.client import MAX_CONNECTIONS, VllmClient
from services.policy.engines.vllm.self_test import self_test
from services.policy.engines.vllm.serving import SERVED_NAME
from services.policy.engines.vllm.stops import stop_ids_of
from services.policy.settings import PolicySettings
from services.policy.swapping.canary import CanaryCheck
from shared.contracts.weights import Precision, WeightVersion
from shared.runtime.telemetry import span
from shared.store.weights.manifests import (
    TensorHeader,
    WeightsError,
    check_headers,
    read_canary,
    tensor_headers,
    verify,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Live:
    """A version that passed its canary, and the label that the server carries since."""

    version: WeightVersion
    directory: Path
    label: str
    stop_ids: list[int]
    max_model_len: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Responses of one request whose seeds follow one another: the server makes them from one prompt."""

    request: int
    first: int
    num: int


class VllmEngine:
    """See `Engine`. Requests of several threads run side by side in the server."""

    def __init__(self, settings: PolicySettings) -> None:
        self._client = VllmClient(
            settings.vllm_url,
            settings.vllm_key(),
            timeout_s=settings.vllm_timeout_s,
            patience_s=settings.vllm_patience_s,
        )
        self._tolerance = settings.canary_tolerance
        self._precision: Precision | None = None
        self._tested: str | None = None
        self._canary: CanaryCheck | None = None
        self._staged: WeightVersion | None = None
        self._live: _Live | None = None
        self._last_good: _Live | None = None
        self._pool = ThreadPoolExecutor(MAX_CONNECTIONS, thread_name_prefix="vllm")

    def close(self) -> None:
        """End the connections; for whoever makes more than one engine in a process."""
        self._pool.shutdown()
        self._client.close()

    def wake(self) -> None:
        """Take the accelerator's memory back after `rest`; the weights are those that rested."""
        self._client.wake_up()

    def rest(self) -> None:
        """Give the accelerator's memory to somebody else; nothing may be asked before `wake`."""
        self._client.sleep()

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._client.url

    def live_version(self) -> WeightVersion | None:
        """See `Engine.live_version`; None as well when the server was started again. Asks the server."""
        live = self._live
        return live.version if live is not None and self._client.weight_version() == live.label else None

    def precision(self) -> Precision:
        """See `Engine.precision`: what the server said when the live version was loaded."""
        if self._precision is None:
            raise EngineError("no weights are loaded yet; swap_weights comes first")
        return self._precision

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine.generate`; consecutive seeds of a request share one pass over the prompt."""
        groups = [group for index, request in enumerate(requests) for group in _groups(index, request.seeds)]
        with self._serving() as live:
            asked = [self._ask(live, requests[group.request], group, sampling) for group in groups]
            answers = [_completions(answer, group.num) for answer, group in zip(_all(asked), groups, strict=True)]
        found: list[list[Completion]] = [[] for _ in requests]
        for group, completions in zip(groups, answers, strict=True):
            found[group.request] += completions
        return found

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """See `Engine.score`."""
        with self._serving() as live:
            return self._score(live.label, sequences)

    def stage(self, directory: Path, version: WeightVersion) -> None:
        """See `Engine.stage`: digests of all files, and the very tensors that the server was started on."""
        served = self._client.served_model()
        self._test(served)
        expected = {name: TensorHeader(tensor.dtype, tensor.shape) for name, tensor in served.tensors.items()}
        try:
            verify(directory, version)
            check_headers(tensor_headers(directory), expected)
            read_canary(directory)
        except (WeightsError, OSError) as error:
            raise SwapRefusedError(f"{error} (vLLM was started on {served.directory})") from error
        self._staged = version

    def swap_weights(self, directory: Path, version: WeightVersion) -> None:
        """See `Engine.swap_weights`. On any failure the last good version is loaded and verified again.

        When that fails as well the server is ended, so that its supervisor starts it afresh.
        """
        if self._staged != version:
            self.stage(directory, version)
        self._staged = None
        self._live = None
        try:
            self._load(directory, version)
        except EngineUnavailableError:
            # The server is gone, and with it whatever was half loaded.
            raise
        except Exception as error:
            self._go_back(version, error)
            if isinstance(error, EngineError):
                raise SwapRefusedError(f"{version} does not serve: {error}") from error
            raise

    def _load(self, directory: Path, version: WeightVersion) -> None:
        canary, stop_ids = read_canary(directory), stop_ids_of(directory)
        # Also the salt of the prefix cache, which vLLM wants short and without `@` or `/`.
        label = f"v{version.number}-{version.digest[:16]}-{uuid.uuid4().hex}"
        with span("load", version=str(version)):
            self._client.pause()
            self._client.swap_weights(str(directory))
            self._client.reset_prefix_cache()
            self._client.set_weight_version(label)
            # A paused server answers no canary; nobody else asks meanwhile, because the gate is closed.
            self._client.resume()
        with span("canary", version=str(version)):
            served, check = self._served_and_check()
            verdict = check.check(canary, lambda sequences: self._score(label, sequences))
        log.info("canary_accepted", version=str(version), **asdict(verdict))
        if self._client.weight_version() != label:
            raise EngineUnavailableError(f"vLLM was started again while it loaded {version}")
        self._live = self._last_good = _Live(version, directory, label, stop_ids, served.max_model_len)

    def _go_back(self, refused: WeightVersion, error: Exception) -> None:
        last = self._last_good
        log.warning("swap_failed", version=str(refused), error=str(error), back_to=str(last.version) if last else None)
        if last is None and isinstance(error, SwapRefusedError):
            # Loaded whole, and not what it should be: nothing serves, and the next swap loads every tensor anew.
            return
        try:
            if last is None:
                raise EngineError("no version has served before")
            self._load(last.directory, last.version)
        except EngineUnavailableError:
            pass
        except EngineError as lost:
            log.error("engine_lost", error=str(lost))
            self._client.end_server()

    def _test(self, served: ServedModel) -> None:
        """Once for each precision below float32, while nothing serves: a server that dies of it takes no work along."""
        if served.dtype not in ("float32", self._tested):
            self_test(self._client, served.dtype)
            self._tested = served.dtype

    def _served_and_check(self) -> tuple[ServedModel, CanaryCheck]:
        """What the server was started on, asked anew, and the canary's check for its precision."""
        served = self._client.served_model()
        if self._canary is None or self._precision != served.dtype:
            self._canary, self._precision = CanaryCheck(served.dtype, self._tolerance), served.dtype
        return served, self._canary

    @contextmanager
    def _serving(self) -> Generator[_Live]:
        """What serves, the same before and after the block; `EngineError` when it is not."""
        live = self._live
        if live is None:
            raise EngineError("no weights are loaded yet; swap_weights comes first")
        self._check_label(live)
        yield live
        self._check_label(live)

    def _check_label(self, live: _Live) -> None:
        label = self._client.weight_version()
        if label != live.label:
            raise EngineUnavailableError(f"vLLM serves {label!r} instead of {live.version}: it was started again")

    def _ask(self, live: _Live, request: GenerationRequest, group: _Group, sampling: Sampling) -> Future[Completions]:
        if not request.prompt_ids:
            raise EngineError("a prompt without tokens: the policy needs at least one token to start from")
        length = len(request.prompt_ids) + sampling.max_new_tokens
        if length > live.max_model_len:
            # vLLM itself would cut the response short without a word.
            raise EngineError(
                f"{len(request.prompt_ids)} prompt tokens and {sampling.max_new_tokens} new ones exceed the "
                f"{live.max_model_len} tokens that vLLM was started with: raise its --max-model-len"
            )
        # Everything is said: a server may have defaults from the model's own generation_config.json.
        body = {
            "model": SERVED_NAME,
            "prompt": request.prompt_ids,
            "n": group.num,
            "seed": request.seeds[group.first],
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "ignore_eos": True,
            "stop_token_ids": live.stop_ids,
            "logprobs": 0,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "cache_salt": live.label,
        }
        return self._pool.submit(self._client.complete, body)

    def _score(self, label: str, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        asked: list[Future[Completions]] = []
        for sequence in sequences:
            if not sequence:
                raise EngineError("a sequence without tokens cannot be scored")
            body = {
                "model": SERVED_NAME,
                "prompt": list(sequence),
                "max_tokens": 1,
                "temperature": 0.0,
                "prompt_logprobs": 0,
                "cache_salt": label,
            }
            asked.append(self._pool.submit(self._client.complete, body))
        return [_prompt_log_probs(answer, sequence) for answer, sequence in zip(_all(asked), sequences, strict=True)]


def _groups(index: int, seeds: Sequence[int]) -> Generator[_Group]:
    first = 0
    for end in range(1, len(seeds) + 1):
        if end == len(seeds) or seeds[end] != seeds[end - 1] + 1:
            yield _Group(index, first, end - first)
            first = end


def _all(asked: Sequence[Future[Completions]]) -> list[Completions]:
    """All answers, or the first error once none is running any more: a swap must not meet them."""
    errors = [future.exception() for future in asked]
    error = next((error for error in errors if error is not None), None)
    if error is not None:
        raise error
    return [future.result() for future in asked]


def _completions(answer: Completions, num: int) -> list[Completion]:
    choices = sorted(answer.choices, key=lambda choice: choice.index)
    if [choice.index for choice in choices] != list(range(num)):
        raise EngineError(f"vLLM answered {len(choices)} of {num} responses")
    return [_completion(choice) for choice in choices]


def _completion(choice: Choice) -> Completion:
    if choice.finish_reason not in ("stop", "length"):
        raise EngineError(f"vLLM ended a response with {choice.finish_reason}: it was aborted")
    if not choice.token_ids or choice.logprobs is None:
        raise EngineError("vLLM's answer has no token ids or log-probs: it must be of version 0.32 or later")
    log_probs = choice.logprobs.token_logprobs
    if len(log_probs) != len(choice.token_ids):
        raise EngineError(f"vLLM gave {len(log_probs)} log-probs for {len(choice.token_ids)} tokens")
    if not all(math.isfinite(value) for value in log_probs):
        raise EngineError("the policy gives log-probs that are not finite")
    return Completion(choice.token_ids, log_probs, choice.finish_reason)


def _prompt_log_probs(answer: Completions, sequence: Sequence[int]) -> list[float]:
    found = answer.choices[0].prompt_logprobs if answer.choices else None
    if found is None or len(found) != len(sequence):
        raise EngineError("vLLM's answer has not one prompt_logprobs entry for each token")
    rows: list[float] = []
    for token, entry in zip(sequence[1:], found[1:], strict=True):
        if entry is None or token not in entry or not math.isfinite(entry[token].logprob):
            raise EngineError(f"vLLM gives no finite log-prob of token {token}")
        rows.append(entry[token].logprob)
    return rows
