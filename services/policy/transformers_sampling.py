# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""Sampling whose every draw belongs to a response: its seed and step decide, not the batch that it is computed in.

Shapes: B responses in the batch, V vocabulary, S steps generated so far.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from services.policy.engine import Sampling


class SeededSampler:
    """A logits processor that picks each token itself, by inverse CDF, and leaves generation no choice.

    The uniform of step s of a response is the s-th draw of a Philox generator keyed by the response's seed. What is
    recorded is the raw log-prob of the token: temperature 1, before top-p, in fp32.
    """

    def __init__(self, seeds: Sequence[int], sampling: Sampling, device: torch.device) -> None:
        draws = [np.random.Generator(np.random.Philox(key=seed)).random(sampling.max_new_tokens) for seed in seeds]
        self._uniforms = torch.from_numpy(np.stack(draws)).to(device)
        self._sampling = sampling
        self._tokens: list[Tensor] = []
        self._log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits [B, V] in which only the picked token is possible."""
        log_probs = torch.log_softmax(scores.float(), dim=-1)
        cdf = torch.cumsum(self._weights(scores.float(), log_probs), dim=-1, dtype=torch.float64)
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

    def _weights(self, logits: Tensor, log_probs: Tensor) -> Tensor:
        if self._sampling.temperature != 1.0:
            log_probs = torch.log_softmax(logits / self._sampling.temperature, dim=-1)
        weights = log_probs.exp()
        if self._sampling.top_p >= 1.0:
            return weights
        ordered, order = torch.sort(weights, dim=-1, descending=True, stable=True)
        before = torch.cumsum(ordered, dim=-1, dtype=torch.float64) - ordered
        return weights.scatter(1, order, ordered.masked_fill(before >= self._sampling.top_p, 0.0))
