"""Prompts as the token ids that the policy continues: rendered once, stored with the rollout, never re-tokenised."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from shared.contracts.records import Prompt, Skipped
from shared.contracts.text_limits import too_long_for

PromptFormat = Literal["auto", "chat", "text"]


class RenderError(ValueError):
    """A prompt that cannot be rendered; it is listed as skipped with this message."""


class Tokenizer(Protocol):
    """What rendering needs of a model's tokenizer. Token ids carry at most one BOS and no trailing EOS."""

    @property
    def has_chat_template(self) -> bool:
        """Whether `encode_chat` can be asked."""
        ...

    def encode_chat(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> list[int]:
        """The chat template's tokens, up to where the assistant begins; `RenderError` when it refuses.

        `variables` are the template's, beside the messages.
        """
        ...

    def encode_text(self, text: str) -> list[int]:
        """The text's tokens as the model was pretrained on them; `RenderError` when it is not text."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text of a response, without special tokens."""
        ...


class Renderer:
    """Renders prompts in one format under one token limit.

    `chat`, or variables for a chat template, without one is an error of the run, not of a prompt: `ValueError` when the
    renderer is made.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_format: PromptFormat,
        limit: int,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if prompt_format == "chat" and not tokenizer.has_chat_template:
            raise ValueError(
                "prompts.format is `chat`, but the model's tokenizer has no chat template: "
                "take format `text`, or a model directory with a chat_template"
            )
        if chat_template_kwargs and not tokenizer.has_chat_template:
            raise ValueError(
                "prompts.chat_template_kwargs are given, but the model's tokenizer has no chat template to read them"
            )
        self._tokenizer = tokenizer
        self._variables = dict(chat_template_kwargs or {})
        self._chat = prompt_format == "chat" or (prompt_format == "auto" and tokenizer.has_chat_template)
        self._limit = limit

    def render(self, prompt: Prompt) -> list[int] | Skipped:
        """The prompt's token ids, at least one and at most the limit, or why it is left out. Never cut."""
        try:
            ids = self._encode(prompt)
        except RenderError as error:
            return Skipped(id=prompt.prompt_id, reason=str(error))
        if not ids:
            return Skipped(id=prompt.prompt_id, reason="empty: renders to no tokens")
        if len(ids) > self._limit:
            return Skipped(id=prompt.prompt_id, reason=f"over-long: {len(ids)} tokens, limit {self._limit}")
        return ids

    def _encode(self, prompt: Prompt) -> list[int]:
        if prompt.messages[-1].role != "user":
            raise RenderError(f"not a prompt: its last message is of the {prompt.messages[-1].role}, not of the user")
        _check_unicode(prompt)
        if too_long := too_long_for(self._limit, (message.content for message in prompt.messages)):
            raise RenderError(f"over-long: {too_long}")
        if self._chat:
            return self._tokenizer.encode_chat([message.model_dump() for message in prompt.messages], self._variables)
        if len(prompt.messages) > 1:
            raise RenderError(
                "format text takes one user message, not a conversation or a system prompt: "
                "use a model with a chat template and format `chat`"
            )
        return self._tokenizer.encode_text(prompt.messages[0].content)


def _check_unicode(prompt: Prompt) -> None:
    try:
        "".join(message.content for message in prompt.messages).encode()
    except UnicodeEncodeError:
        raise RenderError("holds characters that are not valid Unicode (lone surrogates)") from None


def prompt_limit(max_prompt_tokens: int, max_new_tokens: int, context: int | None) -> int:
    """Most tokens of a prompt that leave room for a whole response in the model's context."""
    if context is None:
        return max_prompt_tokens
    if max_new_tokens >= context:
        raise ValueError(
            f"sampling.max_new_tokens = {max_new_tokens} leaves no room for a prompt "
            f"in the model's context of {context} tokens: lower it"
        )
    return min(max_prompt_tokens, context - max_new_tokens)
