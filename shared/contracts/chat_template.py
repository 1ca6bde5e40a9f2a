"""Variables of a chat template, as a person gives them and as plans carry them to the policy."""

from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue

# What `apply_chat_template` and the rendering behind it take themselves: the policy decides on these.
_RESERVED = frozenset(
    [
        "add_generation_prompt",
        "chat_template",
        "compiled_template",
        "continue_final_message",
        "conversation",
        "conversations",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "self",
        "tokenize",
        "tokenizer_kwargs",
        "truncation",
    ]
)


def _template_variables(kwargs: dict[str, Any]) -> dict[str, Any]:
    taken = sorted(kwargs.keys() & _RESERVED)
    if taken:
        raise ValueError(f"{', '.join(taken)}: decided by the policy, not a variable of the chat template")
    return kwargs


ChatTemplateKwargs = Annotated[dict[str, JsonValue], AfterValidator(_template_variables)]
