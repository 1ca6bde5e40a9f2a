"""Answering outsiders with the promoted weights, and with nothing else."""

import json
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from services.policy.drawing.prompts import RenderError, Tokenizer
from services.policy.drawing.sampling_policy import check_completions
from services.policy.engine import (
    Completion,
    Engine,
    EngineBusyError,
    EngineError,
    GenerationRequest,
    Sampling,
    SwapRefusedError,
)
from services.policy.swapping.gate import Gate
from services.policy.worker import context_of
from shared.contracts.rest.completions import (
    PROMOTED,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
    CompletionResponse,
    CompletionUsage,
)
from shared.contracts.rest.problems import FieldError
from shared.contracts.text_limits import too_long_for
from shared.contracts.weights import Promotion, WeightVersion
from shared.inpo.seeds import seed_of
from shared.runtime.http.app import ProblemError
from shared.store.artifacts import promotions
from shared.store.artifacts.store import ArtifactStore, CorruptArtifactError, MissingArtifactError
from shared.store.weights.store import weights_of

_REFUSAL_KEPT_S = 30.0
_ANY_CONTEXT = 1 << 13  # tokens, of a model that does not say how many it can attend to: half a mebibyte of text


@dataclass(frozen=True, slots=True)
class _Text:
    """How a version reads and writes text. `vocabulary` and `context` are None where its config.json is silent."""

    tokenizer: Tokenizer
    vocabulary: int | None
    context: int | None


@dataclass(frozen=True, slots=True)
class CompletionLimits:
    """What one request may ask for, and after how long without a run's work the engine is swapped for outsiders."""

    idle_s: float
    max_tokens: int
    max_responses: int


class Completions:
    """Completions under the promoted version. Safe for any number of threads; each call blocks its own."""

    def __init__(
        self, store: ArtifactStore, gate: Gate, load_tokenizer: Callable[[Path], Tokenizer], limits: CompletionLimits
    ) -> None:
        self._store = store
        self._weights = weights_of(store)
        self._gate = gate
        self._load_tokenizer = load_tokenizer
        self._text = lru_cache(maxsize=2)(self._read_text)
        self._limits = limits
        self._refusal: tuple[WeightVersion, str, float] | None = None

    def promotion(self) -> Promotion | None:
        """The promotion in force; `ProblemError` where it cannot be read: no earlier one counts in its place."""
        try:
            return promotions.current(self._store)
        except (CorruptArtifactError, MissingArtifactError) as error:
            raise _unavailable(
                "The promotion cannot be read", f"{error}: promote a version", _REFUSAL_KEPT_S
            ) from error

    def is_live(self, version: WeightVersion) -> bool:
        """Whether the engine serves the version at this moment."""
        return self._gate.live == version

    def answer(self, request: CompletionRequest) -> CompletionResponse:
        """Every response of the request, all under one version; `ProblemError` says why there is none, and a remedy."""
        promotion = self.promotion()
        if promotion is None:
            remedy = "`inpo weights promote RUN NUMBER`, or POST /v1/weights/{run}@{number}:promote of the controller"
            raise ProblemError(409, "Nothing is promoted", f"no weight version is promoted yet: {remedy}")
        version = promotion.version
        if request.model not in (PROMOTED, version.name):
            detail = f"{request.model!r} is not served here; {version.name} is, also under the name {PROMOTED!r}"
            raise ProblemError(404, "Unknown model", detail, errors=[FieldError(field="model", message=detail)])
        try:
            text = self._text(self._weights.local(version))
        except (OSError, ValueError) as error:
            raise _unavailable("The promoted weights cannot be read", str(error), _REFUSAL_KEPT_S) from error
        prompts = self._encoded(request, text)
        with self._engine(version) as engine:
            found = _generate(engine, version, request, prompts)
        return _response(request, version, prompts, found, text.tokenizer)

    def _read_text(self, directory: Path) -> _Text:
        return _Text(self._load_tokenizer(directory), _vocabulary_of(directory), context_of(directory))

    def _encoded(self, request: CompletionRequest, text: _Text) -> list[list[int]]:
        """The prompts' token ids, all of which the model can continue; 422 names what it cannot."""
        given = _prompts(request)
        vocabulary, context = text.vocabulary, text.context
        if request.max_tokens > self._limits.max_tokens:
            raise _invalid("max_tokens", f"at most {self._limits.max_tokens} (INPO_COMPLETION_MAX_TOKENS)")
        if not 0 < len(given) * request.n <= self._limits.max_responses:
            most = self._limits.max_responses
            raise _invalid("prompt", f"{len(given)} prompts times n = {request.n}: 1 to {most} responses a request")
        encoded: list[list[int]] = []
        for index, prompt in enumerate(given):
            ids = _ids(prompt, text, index)
            if vocabulary is not None and max(ids) >= vocabulary:
                raise _invalid(
                    "prompt", f"prompt {index}: token id {max(ids)} is beyond the vocabulary of {vocabulary}"
                )
            if context is not None and len(ids) + request.max_tokens > context:
                asked = f"{len(ids)} prompt tokens and max_tokens = {request.max_tokens}"
                raise _invalid("prompt", f"prompt {index}: {asked} exceed the model's context of {context}")
            encoded.append(ids)
        return encoded

    @contextmanager
    def _engine(self, version: WeightVersion) -> Generator[Engine]:
        """The engine under the version; what keeps it from answering becomes a 503 that says whether waiting helps."""
        if self._refusal is not None and self._refusal[0] == version and time.monotonic() < self._refusal[2]:
            raise _unavailable("The promoted weights are refused", self._refusal[1], _REFUSAL_KEPT_S)
        try:
            with self._gate.visiting(version, self._limits.idle_s) as engine:
                yield engine
        except EngineBusyError as error:
            detail = f"{error}; outsiders are answered when it has been idle for {self._limits.idle_s:g} s"
            raise _unavailable("A run is at work", detail, self._limits.idle_s) from None
        except SwapRefusedError as error:
            # Refused weights are checked again from time to time, not on every request.
            self._refusal = (version, str(error), time.monotonic() + _REFUSAL_KEPT_S)
            raise _unavailable("The promoted weights are refused", str(error), _REFUSAL_KEPT_S) from error
        except EngineError as error:
            raise _unavailable("The engine cannot answer", str(error), self._limits.idle_s) from error


def _generate(
    engine: Engine, version: WeightVersion, request: CompletionRequest, prompts: list[list[int]]
) -> list[list[Completion]]:
    seed = secrets.randbits(62) if request.seed is None else request.seed
    requests = [
        GenerationRequest(ids, _seeds(request.n, "completion", seed, index)) for index, ids in enumerate(prompts)
    ]
    sampling = Sampling(request.max_tokens, request.temperature, request.top_p)
    before = engine.live_version()
    found = engine.generate(requests, sampling)
    after = engine.live_version()
    if not before == after == version:
        raise EngineError(f"{before} was live before and {after} after generating, not {version}")
    if len(found) != len(requests):
        raise EngineError(f"the engine answered {len(found)} of {len(requests)} prompts")
    for index, (asked, completions) in enumerate(zip(requests, found, strict=True)):
        check_completions(f"prompt {index}", asked, completions)
    return found


def _seeds(num: int, *parts: str | int) -> list[int]:
    """Seeds that follow one another, below 2**63 all of them: some engines sample those together."""
    first = seed_of(*parts) >> 1
    return list(range(first, first + num))


def _response(
    request: CompletionRequest,
    version: WeightVersion,
    prompts: list[list[int]],
    found: list[list[Completion]],
    tokenizer: Tokenizer,
) -> CompletionResponse:
    flat = [(ids, completion) for ids, group in zip(prompts, found, strict=True) for completion in group]
    num_prompt = sum(map(len, prompts))
    num_drawn = sum(len(completion.token_ids) for _, completion in flat)
    return CompletionResponse(
        id=f"cmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=version.name,
        digest=version.digest,
        choices=[_choice(index, request, ids, item, tokenizer) for index, (ids, item) in enumerate(flat)],
        usage=CompletionUsage(
            prompt_tokens=num_prompt, completion_tokens=num_drawn, total_tokens=num_prompt + num_drawn
        ),
    )


def _choice(
    index: int, request: CompletionRequest, prompt_ids: list[int], completion: Completion, tokenizer: Tokenizer
) -> CompletionChoice:
    logprobs = None
    if request.logprobs is not None:
        tokens = [tokenizer.decode([token]) for token in completion.token_ids]
        logprobs = CompletionLogprobs(tokens=tokens, token_logprobs=completion.log_probs)
    return CompletionChoice(
        index=index,
        text=tokenizer.decode(completion.token_ids),
        logprobs=logprobs,
        finish_reason=completion.finish_reason,
        token_ids=completion.token_ids if request.return_token_ids else None,
        prompt_token_ids=prompt_ids if request.return_token_ids else None,
    )


def _prompts(request: CompletionRequest) -> list[str | list[int]]:
    """One entry for each prompt; a bare list of numbers is one."""
    if isinstance(request.prompt, str):
        return [request.prompt]
    if request.prompt and isinstance(request.prompt[0], int):
        return [cast(list[int], request.prompt)]
    return list(cast(list[str | list[int]], request.prompt))


def _ids(prompt: str | list[int], text: _Text, index: int) -> list[int]:
    if isinstance(prompt, str) and (too_long := too_long_for(text.context or _ANY_CONTEXT, [prompt])):
        raise _invalid("prompt", f"prompt {index} is over-long: {too_long}")
    try:
        ids = text.tokenizer.encode_text(prompt) if isinstance(prompt, str) else prompt
    except RenderError as error:
        raise _invalid("prompt", f"prompt {index}: {error}") from error
    if not ids:
        raise _invalid("prompt", f"prompt {index} is empty: the policy needs a token to start from")
    return ids


def _vocabulary_of(directory: Path) -> int | None:
    config: dict[str, Any] = json.loads((directory / "config.json").read_bytes())
    size = config.get("text_config", config).get("vocab_size")
    return size if isinstance(size, int) else None


def _invalid(field: str, message: str) -> ProblemError:
    return ProblemError(
        422, "Invalid request", f"{field}: {message}", errors=[FieldError(field=field, message=message)]
    )


def _unavailable(title: str, detail: str, retry_after_s: float) -> ProblemError:
    headers = {"Retry-After": str(max(1, round(retry_after_s)))}
    return ProblemError(503, title, detail, retryable=True, headers=headers)
