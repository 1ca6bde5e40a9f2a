"""An engine and a tokenizer without a model, with handles for tests: refusals, hooks and a count of overlaps."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from services.policy.engine import Completion, EngineError, GenerationRequest, Sampling, SwapRefusedError
from services.policy.settings import PolicySettings
from shared.contracts.weights import Precision, WeightVersion
from shared.inpo.seeds import uniform_of

VOCAB_SIZE = 256
STOP = 0


class FakeEngine:
    """A uniform policy over bytes whose draws depend on prompt, seed and version only.

    `refused` holds digests that fail verification; `during` is called inside every generation and every swap;
    `overlaps` counts what must never happen: a swap while something is generated.
    """

    def __init__(self, settings: PolicySettings | None = None) -> None:
        self.live: WeightVersion | None = None
        self.refused: set[str] = set()
        self.swaps: list[WeightVersion] = []
        self.during: Callable[[str], None] = lambda what: None
        self.overlaps = 0
        self._generating = 0
        self._swapping = False
        self._lock = threading.Lock()

    def live_version(self) -> WeightVersion | None:
        """See `Engine`."""
        return self.live

    def precision(self) -> Precision:
        """See `Engine`."""
        return "float32"

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine`."""
        version = self.live
        if version is None:
            raise EngineError("no weights are loaded yet")
        with self._lock:
            self.overlaps += self._swapping
            self._generating += 1
        self.during("generate")
        completions = [
            [self._completion(version, request.prompt_ids, seed, sampling) for seed in request.seeds]
            for request in requests
        ]
        with self._lock:
            self._generating -= 1
        return completions

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """See `Engine`."""
        return [[-math.log(VOCAB_SIZE)] * (len(sequence) - 1) for sequence in sequences]

    def stage(self, directory: Path, version: WeightVersion) -> None:
        """See `Engine`; accepts every directory."""

    def swap_weights(self, directory: Path, version: WeightVersion) -> None:
        """See `Engine`."""
        with self._lock:
            self.overlaps += self._generating > 0
            self._swapping = True
        try:
            self.during("swap")
            if version.digest in self.refused:
                raise SwapRefusedError(f"{version} is refused by the test")
            self.live = version
            self.swaps.append(version)
        finally:
            with self._lock:
                self._swapping = False

    @staticmethod
    def _completion(version: WeightVersion, prompt_ids: list[int], seed: int, sampling: Sampling) -> Completion:
        tokens: list[int] = []
        for step in range(sampling.max_new_tokens):
            draw = uniform_of(version.number, repr(prompt_ids), seed, step)
            tokens.append(int(draw * VOCAB_SIZE))
            if tokens[-1] == STOP:
                break
        reason: Literal["stop", "length"] = "stop" if tokens[-1] == STOP else "length"
        return Completion(tokens, [-math.log(VOCAB_SIZE)] * len(tokens), reason)


class FakeTokenizer:
    """Bytes as token ids; no chat template."""

    has_chat_template = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def encode_chat(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> list[int]:
        """Never asked: there is no chat template."""
        raise AssertionError(f"there is no chat template for {messages}")

    def encode_text(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        """See `Tokenizer`; readable whatever the bytes."""
        return " ".join(f"{token:02x}" for token in ids if token != STOP)
