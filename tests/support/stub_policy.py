"""A policy without a model: responses are a pure function of weights, prompt and seed. For fault tests."""

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.policy.engine import Completion, GenerationRequest, Sampling
from services.policy.settings import PolicySettings
from shared.contracts.weights import Precision, WeightVersion
from shared.inpo.seeds import seed_of

VOCABULARY = 200
SLOW_S = 6.0


class StubEngine:
    """See `services.policy.engine.Engine`."""

    def __init__(self, settings: PolicySettings) -> None:
        del settings
        self._live: WeightVersion | None = None

    def live_version(self) -> WeightVersion | None:
        return self._live

    def precision(self) -> Precision:
        return "float32"

    def stage(self, directory: Path, version: WeightVersion) -> None:
        del directory, version

    def swap_weights(self, directory: Path, version: WeightVersion) -> None:
        del directory
        self._live = version

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[list[Completion]]:
        assert self._live is not None
        for request in requests:
            _swallow(bytes(request.prompt_ids))
        return [
            [self._completion(self._live.digest, request.prompt_ids, seed, sampling) for seed in request.seeds]
            for request in requests
        ]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[-1.0] * (len(sequence) - 1) for sequence in sequences]

    @staticmethod
    def _completion(digest: str, prompt_ids: Sequence[int], seed: int, sampling: Sampling) -> Completion:
        draw = seed_of("stub", digest, *prompt_ids, seed)
        length = 1 + draw % sampling.max_new_tokens
        tokens = [seed_of(draw, position) % VOCABULARY for position in range(length)]
        return Completion(tokens, [-1.0] * length, "length" if length == sampling.max_new_tokens else "stop")


def _swallow(prompt: bytes) -> None:
    """A prompt may be poison: it makes the engine raise, kills its process, or never comes back."""
    if b"poison that raises" in prompt:
        raise ValueError("this prompt is poison")
    if b"poison that kills" in prompt:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"prompt that takes long" in prompt:
        threading.Event().wait(SLOW_S)
    if b"poison that hangs" in prompt:
        threading.Event().wait()


class StubTokenizer:
    """See `services.policy.drawing.prompts.Tokenizer`: one token a byte."""

    has_chat_template = False

    def __init__(self, directory: Path) -> None:
        del directory

    def encode_chat(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> list[int]:
        return self.encode_text("".join(message["content"] for message in messages))

    def encode_text(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))
