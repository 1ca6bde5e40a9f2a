# transformers' tokenizers and model outputs are untyped; scores leave this module as floats.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A Bradley-Terry reward model: P(a beats b) = sigmoid(r(a) - r(b)), r from a sequence classifier with one label.

The conversation is the chat template over prompt and response, which writes its own BOS; without a template it is the
contents joined by a blank line, with the tokenizer's own special tokens. A reward has no position, so the orders are
not asked separately.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from jinja2 import TemplateError
from transformers import AutoModelForSequenceClassification

from services.oracle.judge import Comparison, Judge, JudgeBuildError, Opinion, abstention, failure, opinion
from services.oracle.judges.local.local_model import LocalModel, batches, identity, load, pad_right
from shared.contracts.judges import RewardModelJudge
from shared.contracts.records import Message
from shared.contracts.rest.judging import JudgeIdentity
from shared.contracts.text_limits import too_long_for

Conversation: TypeAlias = tuple[tuple[Message, ...], str]


class RewardModel:
    """See `Judge`. A response is scored once a batch, however many comparisons it is part of."""

    def __init__(self, spec: RewardModelJudge, loaded: LocalModel) -> None:
        self._spec = spec
        self._loaded = loaded
        self._config: Any = loaded.model.config.get_text_config()
        self._declared_pad: int | None = self._config.pad_token_id

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return identity(self._spec, self._loaded.revision, transitive=True)

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """See `Judge.compare`."""
        started = time.perf_counter()
        wanted = {conversation: None for comparison in comparisons for conversation in _conversations(comparison)}
        scored = self._score(list(wanted))
        latency_s = time.perf_counter() - started
        return [_opinion(comparison, scored, latency_s) for comparison in comparisons]

    def _score(self, conversations: Sequence[Conversation]) -> dict[Conversation, "float | Opinion"]:
        scored: dict[Conversation, float | Opinion] = {}
        encoded: list[tuple[Conversation, list[int]]] = []
        for conversation in conversations:
            if too_long := too_long_for(self._spec.max_tokens, _texts(conversation)):
                scored[conversation] = abstention(f"the conversation is over-long: {too_long}", 0.0)
                continue
            try:
                ids = encode(self._loaded.tokenizer, *conversation)
            except (TemplateError, ValueError, TypeError) as error:
                scored[conversation] = abstention(f"the conversation cannot be tokenised: {error}", 0.0)
                continue
            if len(ids) > self._spec.max_tokens:
                reason = f"the conversation has {len(ids)} tokens, more than max_tokens = {self._spec.max_tokens}"
                scored[conversation] = abstention(reason, 0.0)
            elif not ids:
                scored[conversation] = abstention("the conversation has no tokens", 0.0)
            else:
                encoded.append((conversation, ids))
        for batch in batches([ids for _, ids in encoded], self._spec.batch_size):
            scored.update(self._score_batch([encoded[index] for index in batch]))
        return scored

    def _score_batch(self, batch: Sequence[tuple[Conversation, list[int]]]) -> dict[Conversation, "float | Opinion"]:
        try:
            rewards = self._forward([ids for _, ids in batch])
        except RuntimeError as error:
            failed = failure(f"the reward model failed: {type(error).__name__}: {error}", 0.0)
            return {conversation: failed for conversation, _ in batch}
        return {conversation: reward for (conversation, _), reward in zip(batch, rewards, strict=True)}

    def _forward(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        pad_id = self._declared_pad if self._declared_pad is not None else _unused_id(sequences)
        if pad_id >= self._config.vocab_size and len(sequences) > 1:
            return [reward for sequence in sequences for reward in self._forward([sequence])]
        ids, mask = pad_right(sequences, pad_id, self._loaded.device)
        # The pooled token is the last one that is not this id: without a declared pad token, one that no row holds.
        self._config.pad_token_id = pad_id if self._declared_pad is not None or len(sequences) > 1 else None
        try:
            with torch.inference_mode():
                logits = self._loaded.model(input_ids=ids, attention_mask=mask).logits
        finally:
            self._config.pad_token_id = self._declared_pad
        return [float(reward) for reward in logits[:, 0].float().cpu()]


def build(spec: RewardModelJudge, device: str) -> Judge:
    """The judge; `JudgeBuildError` when the path holds no sequence classifier with exactly one label."""
    loaded = load(AutoModelForSequenceClassification, spec, device)
    labels = loaded.model.config.num_labels
    if labels != 1:
        raise JudgeBuildError("path", f"{spec.path} has {labels} labels; a reward model has 1")
    return RewardModel(spec, loaded)


def encode(tokenizer: Any, prompt: Sequence[Message], response: str) -> list[int]:
    """Token ids of a conversation as the model was trained to read it; see the module's docstring."""
    if tokenizer.chat_template:
        turns = [message.model_dump() for message in prompt] + [{"role": "assistant", "content": response}]
        return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False))
    text = "\n\n".join([*(message.content for message in prompt), response])
    return list(tokenizer(text, verbose=False)["input_ids"])


def _texts(conversation: Conversation) -> list[str]:
    prompt, response = conversation
    return [*(message.content for message in prompt), response]


def bradley_terry(first: float, second: float) -> float:
    """sigmoid(first - second), without overflow."""
    difference = first - second
    if difference >= 0.0:
        return 1.0 / (1.0 + math.exp(-difference))
    odds = math.exp(difference)
    return odds / (1.0 + odds)


def _conversations(comparison: Comparison) -> tuple[Conversation, Conversation]:
    prompt = tuple(comparison.prompt)
    return (prompt, comparison.first), (prompt, comparison.second)


def _opinion(comparison: Comparison, scored: dict[Conversation, "float | Opinion"], latency_s: float) -> Opinion:
    first, second = (scored[conversation] for conversation in _conversations(comparison))
    for score in (first, second):
        if isinstance(score, Opinion):
            return Opinion(score.status, None, None, score.error, latency_s)
        if not math.isfinite(score):
            return failure(f"the reward model answered {score}", latency_s)
    assert isinstance(first, float)
    assert isinstance(second, float)
    return opinion(bradley_terry(first, second), None, latency_s)


def _unused_id(sequences: Sequence[Sequence[int]]) -> int:
    used = {token for sequence in sequences for token in sequence}
    return next(candidate for candidate in range(len(used) + 1) if candidate not in used)
