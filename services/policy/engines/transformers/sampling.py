# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""Sampling whose every draw belongs to a response: its seed and step decide, not the batch that it is computed in.

Shapes: B responses in the batch, V vocabulary, S steps generated so far.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from services.policy.engine import Sampling


class SeededSampler:
    """A logits processor that picks each token itself, by inverse CDF, and leaves generation no choice.

    The uniform of step s of a response is the s-th draw of a Philox generator keyed by the response's seed. What is
    recorded is the raw log-prob of the token: temperature 1, before top-p, in fp32, and of the policy that generates
    even where `mixed` draws from its mixture with another.
    """

    def __init__(
        self, seeds: Sequence[int], sampling: Sampling, device: torch.device, mixed: "Mixed | None" = None
    ) -> None:
        draws = [np.random.Generator(np.random.Philox(key=seed)).random(sampling.max_new_tokens) for seed in seeds]
        self._uniforms = torch.from_numpy(np.stack(draws)).to(device)
        self._sampling = sampling
        self._mixed = mixed
        self._tokens: list[Tensor] = []
        self._log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits [B, V] in which only the picked token is possible."""
        log_probs = torch.log_softmax(scores.float(), dim=-1)
        drawn_from = log_probs if self._mixed is None else self._mixed(input_ids, log_probs)
        cdf = torch.cumsum(self._weights(drawn_from), dim=-1, dtype=torch.float64)
        step = len(self._tokens)
        threshold = self._uniforms[:, step : step + 1] * cdf[:, -1:]
        # NaN logits push the search past the end; the NaN log-prob then tells.
        token = torch.searchsorted(cdf, threshold, right=True).clamp_(max=scores.shape[-1] - 1)
        self._tokens.append(token)
        self._log_probs.append(log_probs.gather(1, token))
        return torch.full_like(scores, float("-inf")).scatter_(1, token, 0.0)

    def drawn(self) -> tuple[list[list[int]], list[list[float]]]:
        """Tokens and their log-probs, both [B, S]; a response that ended is followed by tokens without meaning."""
        tokens = cast(list[list[int]], torch.cat(self._tokens, dim=1).tolist())
        return tokens, cast(list[list[float]], torch.cat(self._log_probs, dim=1).tolist())

    def _weights(self, log_probs: Tensor) -> Tensor:
        if self._sampling.temperature != 1.0:
            log_probs = torch.log_softmax(log_probs / self._sampling.temperature, dim=-1)
        weights = log_probs.exp()
        if self._sampling.top_p >= 1.0:
            return weights
        ordered, order = torch.sort(weights, dim=-1, descending=True, stable=True)
        before = torch.cumsum(ordered, dim=-1, dtype=torch.float64) - ordered
        return weights.scatter(1, order, ordered.masked_fill(before >= self._sampling.top_p, 0.0))


class Mixed:
    """The log of held^exponent · live^(1 - exponent), renormalised over the vocabulary at each step.

    The held model reads along with the generation in a cache of its own. `mask` [B, T] is the prompts' attention mask:
    they are left-padded.
    """

    def __init__(self, model: Any, exponent: float, mask: Tensor) -> None:
        self._model = model
        self._exponent = exponent
        self._mask = mask
        self._cache: Any = None

    def __call__(self, input_ids: Tensor, live: Tensor) -> Tensor:
        """The mixture's log-probs [B, V] after `input_ids` [B, T + S], given the live policy's [B, V]."""
        held = torch.log_softmax(self._read(input_ids).float(), dim=-1)
        mixed = self._exponent * held + (1.0 - self._exponent) * live
        return torch.log_softmax(mixed, dim=-1)

    def _read(self, input_ids: Tensor) -> Tensor:
        num_new = input_ids.shape[1] if self._cache is None else 1
        grown = input_ids.shape[1] - self._mask.shape[1]
        self._mask = torch.cat([self._mask, self._mask.new_ones(self._mask.shape[0], grown)], dim=1)
        output = self._model(
            input_ids=input_ids[:, -num_new:],
            attention_mask=self._mask,
            position_ids=(self._mask.cumsum(dim=1) - 1).clamp_(min=0)[:, -num_new:],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = output.past_key_values
        return cast(Tensor, output.logits[:, -1])
