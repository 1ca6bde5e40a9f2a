"""The engine as the worker sees it: generates and scores under exactly one weight version, and swaps it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from shared.contracts.records import FinishReason
from shared.contracts.weights import Precision, WeightVersion


class EngineError(RuntimeError):
    """The engine could not do what was asked; the same weights go on serving and the work may be tried again."""


class EngineUnavailableError(EngineError):
    """The engine is away for a while, as a server that is being started again; the work is not to blame."""


class SwapRefusedError(EngineError):
    """These weights must not serve; the message says why. The version that served before goes on serving."""


class SwapGivenUpError(SwapRefusedError):
    """These weights have been refused several times in a row: trying once more would change nothing."""


class EngineBusyError(EngineError):
    """A run's work has the engine under another version; whoever is outside the runs comes back later."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: temperature first, then top-p. `top_p` 1 keeps the whole distribution."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt, and one seed for each response that is wanted to it."""

    prompt_ids: list[int]
    seeds: list[int]


@dataclass(frozen=True, slots=True)
class Completion:
    """A response: its tokens, with the stop token when `finish_reason` is "stop" and without one when it is "length".

    `log_probs` are log pi(token) of the policy itself, at temperature 1 and before top-p, in nats.
    """

    token_ids: list[int]
    log_probs: list[float]
    finish_reason: FinishReason


class Engine(Protocol):
    """What every engine promises. Calls may come from several threads; `Gate` keeps swaps apart from the rest."""

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[list[Completion]]:
        """Completions by request, then by seed, all under one weight version.

        A response depends on its prompt, its seed and the weights only, not on what else is in the batch (up to
        rounding in the forward pass). Consecutive seeds of a request may be cheaper than others. `EngineError` for an
        empty prompt, one that leaves no room, or no weights.
        """
        ...

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """The log pi of every token after the first of each sequence, in nats; `EngineError` when one is not finite."""
        ...

    def stage(self, directory: Path, version: WeightVersion) -> None:
        """Check the version's files while serving goes on; `SwapRefusedError` says what is wrong with them."""
        ...

    def swap_weights(self, directory: Path, version: WeightVersion) -> None:
        """Serve `version` from now on, verified by its canary.

        Atomic: after a `SwapRefusedError`, or any other, the old version serves as if nothing had been tried.
        """
        ...

    def live_version(self) -> WeightVersion | None:
        """The version that serves; None before the first swap."""
        ...

    def precision(self) -> Precision:
        """What it computes in: known, or asked of the server, never assumed. `EngineError` before the first swap."""
        ...


@runtime_checkable
class TokenMixing(Protocol):
    """What an engine may be able to do besides: hold a second version, and mix the two token by token."""

    def hold(self, directory: Path, version: WeightVersion) -> None:
        """Keep `version` beside the live one, verified by its canary; at most one is held.

        `SwapRefusedError` for weights that must not be used; what was held before is then still held. Swaps of the
        live version do not touch it.
        """
        ...

    def generate_mixed(
        self, requests: Sequence[GenerationRequest], sampling: Sampling, held: WeightVersion, exponent: float
    ) -> list[list[Completion]]:
        """As `Engine.generate`, each token drawn from what goes with `held^exponent · live^(1 - exponent)`.

        Temperature and top-p apply to the mixture. The completions' log-probs are the live policy's own. `EngineError`
        when `held` is not the version that is held.
        """
        ...


@runtime_checkable
class Rests(Protocol):
    """An engine that can give its accelerator to somebody else for a while."""

    def wake(self) -> None:
        """Take the accelerator back; may be repeated. `EngineError` when it cannot."""
        ...

    def rest(self) -> None:
        """Let go of the accelerator's memory. Nothing may be asked of the engine before `wake`."""
        ...
