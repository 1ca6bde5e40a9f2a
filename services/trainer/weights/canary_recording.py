# transformers' `generate` is untyped.
# pyright: reportUnknownMemberType=false
"""What a weight version's canary is made of: text whose log-probs tell the version from the one before it.

Random tokens would not do: in bfloat16 their log-probs are off by more than a step moves them. A policy's own samples
are what it rounds least on, and the responses that it was trained on are what a step moves most.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from services.trainer.forward.log_probs import bare, canary_log_probs, vocab_size_of
from services.trainer.forward.sequences import Sequences
from shared.contracts.weights import Canary
from shared.inpo.seeds import seed_of

NUM_SAMPLED = 16
NUM_SAMPLED_TOKENS = 48
# Enough to tell a step that moves a token by .01 nats from rounding of .05 nats: the slope's error is .11.
MAX_COMPARED_TOKENS = 2048
MAX_SEQUENCES = 64
MAX_RESPONSE_TOKENS = 128


@dataclass(frozen=True, slots=True)
class CanaryStart:
    """A canary before the step: `log_probs` are under the version that training starts from."""

    sequences: list[list[int]]
    starts: list[int]
    log_probs: list[list[float]]

    def after(self, model: nn.Module, device: torch.device) -> Canary:
        """The canary of `model`, which training has made of it."""
        return Canary(
            sequences=self.sequences,
            starts=self.starts,
            log_probs=canary_log_probs(model, self.sequences, device, self.starts),
            parent_log_probs=self.log_probs,
        )


def canary_start(policy: nn.Module, sequences: Sequences, device: torch.device) -> CanaryStart:
    """Some of the responses to be trained on, evenly spread, under the policy that has not been trained yet.

    Of sharded policies every rank must call it, and every rank gets the same.
    """
    num_pairs = len(sequences) // 2
    pairs = np.unique(np.linspace(0, num_pairs - 1, MAX_SEQUENCES // 2).astype(np.int64))
    chosen: list[list[int]] = []
    starts: list[int] = []
    room = MAX_COMPARED_TOKENS
    for row in (row for pair in pairs for row in (pair, pair + num_pairs)):
        prompt, response = sequences.row(int(row))
        chosen.append(prompt + response[: min(MAX_RESPONSE_TOKENS, room)])
        starts.append(len(prompt))
        room -= len(chosen[-1]) - len(prompt)
        if room <= 0:
            break
    return CanaryStart(chosen, starts, canary_log_probs(policy, chosen, device, starts))


def sampled_sequences(model: nn.Module) -> list[list[int]]:
    """Some hundred tokens of the policy's own text: the same for the same weights on the same machine."""
    config: Any = bare(model).config
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    length = min(NUM_SAMPLED_TOKENS, context) if isinstance(context, int) and context > 1 else NUM_SAMPLED_TOKENS
    draws = np.random.Generator(np.random.Philox(key=seed_of("canary")))
    first = torch.from_numpy(draws.integers(0, vocab_size_of(model), size=(NUM_SAMPLED, 1)))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed_of("canary") % 2**63)
        ids = _continued(model, first.to(next(model.parameters()).device), length)
    return cast(list[list[int]], ids.tolist())


def _continued(model: nn.Module, ids: torch.Tensor, length: int) -> torch.Tensor:
    """Sampled token by token at temperature 1, whatever a generation config says; past the end of a text, too."""
    cache: Any = None
    while ids.shape[1] < length:
        answer: Any = model(input_ids=ids if cache is None else ids[:, -1:], past_key_values=cache, use_cache=True)
        cache = getattr(answer, "past_key_values", None)
        probabilities = answer.logits[:, -1].float().softmax(-1)
        ids = torch.cat([ids, torch.multinomial(probabilities.cpu(), 1).to(ids.device)], dim=1)
    return ids
