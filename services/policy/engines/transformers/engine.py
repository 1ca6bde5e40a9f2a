# transformers' `generate` is only partly typed.
# pyright: reportUnknownMemberType=false
"""The in-process engine: Hugging Face `generate` on the CPU or one GPU. The only place of the policy with torch in it.

Shapes: B responses in a batch, T tokens (prompts left-padded, sequences to score right-padded), V vocabulary.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import structlog
import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList

from services.policy.engine import Completion, EngineError, GenerationRequest, Sampling, SwapRefusedError
from services.policy.engines.transformers.loading import LoadedModel, loaded
from services.policy.engines.transformers.sampling import Mixed, SeededSampler
from services.policy.settings import PolicySettings
from services.policy.swapping.canary import CanaryCheck
from shared.contracts.weights import Precision, WeightVersion
from shared.runtime.telemetry import span
from shared.store.weights.manifests import WeightsError, read_canary, tensor_headers, verify

log = structlog.get_logger(__name__)

MAX_SCORED_LOGITS = 2**26


@dataclass(frozen=True, slots=True)
class _Row:
    request: int
    sample: int
    prompt_ids: list[int]
    seed: int


@dataclass(frozen=True, slots=True)
class _Beside:
    model: Any
    exponent: float


class TransformersEngine:
    """See `Engine`. Fp32 unless told otherwise; one forward at a time, whatever the number of threads."""

    def __init__(self, settings: PolicySettings) -> None:
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        self._device = _device(settings.device)
        self._dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[settings.dtype]
        self._max_rows = settings.max_batch_rows
        self._precision: Precision = settings.dtype
        self._canary = CanaryCheck(settings.dtype, settings.canary_tolerance)
        self._busy = threading.Lock()
        self._staged: WeightVersion | None = None
        self._live: LoadedModel | None = None
        self._held: LoadedModel | None = None

    def live_version(self) -> WeightVersion | None:
        """See `Engine.live_version`."""
        return None if self._live is None else self._live.version

    def precision(self) -> Precision:
        """See `Engine.precision`."""
        return self._precision

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine.generate`."""
        return self._generate(self._loaded(), requests, sampling)

    def hold(self, directory: Path, version: WeightVersion) -> None:
        """See `TokenMixing.hold`: a second model in memory."""
        if self._held is None or self._held.version != version:
            self._held = self._verified(directory, version)

    def generate_mixed(
        self, requests: Sequence[GenerationRequest], sampling: Sampling, held: WeightVersion, exponent: float
    ) -> list[list[Completion]]:
        """See `TokenMixing.generate_mixed`."""
        live, beside = self._loaded(), self._held
        if beside is None or beside.version != held:
            raise EngineError(f"asked to mix with {held}, but {beside.version if beside else 'nothing'} is held")
        if beside.vocab_size != live.vocab_size:
            raise EngineError(f"{held} and {live.version} have vocabularies of different sizes")
        return self._generate(live, requests, sampling, _Beside(beside.model, exponent))

    def _generate(
        self,
        live: LoadedModel,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        beside: "_Beside | None" = None,
    ) -> list[list[Completion]]:
        rows = [
            _Row(index, sample, request.prompt_ids, seed)
            for index, request in enumerate(requests)
            for sample, seed in enumerate(request.seeds)
        ]
        for request in requests:
            _check_prompt(live, request.prompt_ids, sampling.max_new_tokens)
        done: dict[tuple[int, int], Completion] = {}
        rows.sort(key=lambda row: len(row.prompt_ids))
        for start in range(0, len(rows), self._max_rows):
            batch = rows[start : start + self._max_rows]
            for row, completion in zip(batch, self._generate_batch(live, batch, sampling, beside), strict=True):
                done[row.request, row.sample] = completion
        return [[done[index, sample] for sample in range(len(r.seeds))] for index, r in enumerate(requests)]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """See `Engine.score`."""
        return self._score(self._loaded(), sequences)

    def stage(self, directory: Path, version: WeightVersion) -> None:
        """See `Engine.stage`: digests of all files, and safetensors that are as long as their headers say."""
        try:
            verify(directory, version)
            tensor_headers(directory)
            read_canary(directory)
        except (WeightsError, OSError) as error:
            raise SwapRefusedError(str(error)) from error
        self._staged = version

    def swap_weights(self, directory: Path, version: WeightVersion) -> None:
        """See `Engine.swap_weights`. Holds both models for a moment, which is what makes it atomic."""
        self._live = self._verified(directory, version)

    def _verified(self, directory: Path, version: WeightVersion) -> LoadedModel:
        if self._staged != version:
            self.stage(directory, version)
        self._staged = None
        shadow = loaded(directory, version, self._device, self._dtype)
        with span("canary", version=str(version)):
            verdict = self._canary.check(read_canary(directory), lambda sequences: self._score(shadow, sequences))
        log.info("canary_accepted", version=str(version), **asdict(verdict))
        return shadow

    def _loaded(self) -> LoadedModel:
        if self._live is None:
            raise EngineError("no weights are loaded yet; swap_weights comes first")
        return self._live

    def _generate_batch(
        self, live: LoadedModel, rows: Sequence[_Row], sampling: Sampling, beside: "_Beside | None"
    ) -> list[Completion]:
        width = max(len(row.prompt_ids) for row in rows)
        ids = [[live.pad_id] * (width - len(row.prompt_ids)) + row.prompt_ids for row in rows]
        lengths = [len(row.prompt_ids) for row in rows]
        mask = torch.tensor([[0] * (width - num) + [1] * num for num in lengths], device=self._device)
        mixed = None if beside is None else Mixed(beside.model, beside.exponent, mask)
        sampler = SeededSampler([row.seed for row in rows], sampling, self._device, mixed)
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=list(live.stop_ids) or None,
            pad_token_id=live.pad_id,
        )
        with self._busy, torch.inference_mode():
            live.model.generate(
                torch.tensor(ids, device=self._device),
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([sampler]),
            )
        return [
            _completion(tokens, log_probs, live.stop_ids) for tokens, log_probs in zip(*sampler.drawn(), strict=True)
        ]

    def _score(self, loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        for sequence in sequences:
            _check_prompt(loaded, sequence, 0)
        scores: list[list[float]] = [[] for _ in sequences]
        for batch in _batches([len(sequence) for sequence in sequences], self._max_rows, loaded.vocab_size):
            for index, row in zip(batch, self._score_batch(loaded, [sequences[i] for i in batch]), strict=True):
                scores[index] = row
        if not all(math.isfinite(value) for row in scores for value in row):
            raise EngineError(f"{loaded.version} gives log-probs that are not finite")
        return scores

    def _score_batch(self, loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        width = max(len(sequence) for sequence in sequences)
        ids = torch.tensor([[*s, *[loaded.pad_id] * (width - len(s))] for s in sequences], device=self._device)
        mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences], device=self._device)
        with self._busy, torch.inference_mode():
            logits: torch.Tensor = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            log_probs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
            picked = cast(list[list[float]], log_probs.gather(2, ids[:, 1:, None]).squeeze(2).tolist())
        return [row[: len(sequence) - 1] for row, sequence in zip(picked, sequences, strict=True)]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _check_prompt(loaded: LoadedModel, ids: Sequence[int], num_new: int) -> None:
    if not ids:
        raise EngineError("a prompt without tokens: the policy needs at least one token to start from")
    if min(ids) < 0 or max(ids) >= loaded.vocab_size:
        wrong = next(token for token in ids if not 0 <= token < loaded.vocab_size)
        raise EngineError(f"token id {wrong} is not in the model's vocabulary of {loaded.vocab_size}")
    if loaded.context is not None and len(ids) + num_new > loaded.context:
        raise EngineError(
            f"{len(ids)} prompt tokens and {num_new} new ones exceed the model's context of {loaded.context}"
        )


def _completion(tokens: list[int], log_probs: list[float], stop_ids: Sequence[int]) -> Completion:
    length = next((index + 1 for index, token in enumerate(tokens) if token in stop_ids), None)
    reason: Literal["stop", "length"] = "length" if length is None else "stop"
    if not all(math.isfinite(value) for value in log_probs[:length]):
        raise EngineError("the policy gives log-probs that are not finite")
    return Completion(tokens[:length], log_probs[:length], reason)


def _batches(lengths: Sequence[int], max_rows: int, vocab_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length whose logits fit in memory."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) == max_rows or (len(batch) + 1) * lengths[index] * vocab_size > MAX_SCORED_LOGITS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
