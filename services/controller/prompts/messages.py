"""What a row holds becomes the messages of a prompt, or a sentence that says why not.

Known shapes: text; text in several columns (Alpaca); a list of turns as {role, content}, whose content is text or a
list of text parts, or as {from, value} (ShareGPT).
"""

from typing import Any, Literal, cast

from shared.contracts.records import Message
from shared.contracts.spec import PROMPT_COLUMNS, PromptSource

_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_NAMES: dict[type[object], str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


class NotAPromptError(ValueError):
    """A row that is no prompt; the message is a sentence for whoever made it."""


def messages_of(row: dict[str, Any], source: PromptSource) -> list[Message]:
    """A conversation that ends with the user's turn; text is one user message. `NotAPromptError` says what else it is.

    The source's system prompt comes first, unless the conversation brings its own.
    """
    value = _value(row, source.column)
    if isinstance(value, list):
        messages = [_message(turn, number) for number, turn in enumerate(cast(list[Any], value), 1)]
    else:
        messages = [Message(role="user", content=_text(value, "the prompt"))]
    if source.drop_last_assistant_turns:
        messages = _until_the_user_spoke(messages)
    _check_turns(messages)
    if source.system is not None and messages[0].role != "system":
        messages.insert(0, Message(role="system", content=source.system))
    return messages


def named(value: object) -> str:
    """What kind of value a file holds, in its own words."""
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def checked(text: str) -> str:
    """The text itself; `NotAPromptError` when no file could hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotAPromptError("holds characters that are not valid Unicode (lone surrogates)") from None
    return text


def _value(row: dict[str, Any], column: str | list[str] | None) -> Any:
    if column is None:
        name = next((name for name in PROMPT_COLUMNS if row.get(name) is not None), None)
        if name is None:
            wanted = ", ".join(PROMPT_COLUMNS)
            raise NotAPromptError(f"none of the columns {wanted}; it has {sorted(row)}: name one of them by `column`")
        return row[name]
    for name in [column] if isinstance(column, str) else column:
        if name not in row:
            raise NotAPromptError(f"no column {name!r}; it has {sorted(row)}")
    if isinstance(column, str):
        return row[column]
    texts = ["" if row[name] is None else _text(row[name], f"column {name!r}") for name in column]
    return "\n\n".join(text for text in texts if text.strip())


def _message(turn: Any, number: int) -> Message:
    if not isinstance(turn, dict):
        raise NotAPromptError(f"turn {number} is {named(turn)}, not an object with role and content, or from and value")
    fields = cast(dict[str, Any], turn)
    who, what = ("from", "value") if "from" in fields and "role" not in fields else ("role", "content")
    for name in (who, what):
        if name not in fields:
            raise NotAPromptError(f"turn {number} has no {name}; it has {sorted(fields)}")
    role = _ROLES.get(fields[who]) if isinstance(fields[who], str) else None
    if role is None:
        known = "user (or human), assistant (or gpt) and system"
        raise NotAPromptError(f"turn {number} is by {fields[who]!r}; known are {known}")
    return Message(role=role, content=_text(fields[what], f"turn {number}"))


def _text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return checked(value)
    if not isinstance(value, list):
        raise NotAPromptError(f"{where} is {named(value)}, not text, nor a list of turns or of text parts")
    return "".join(_part(part, where) for part in cast(list[Any], value))


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict):
        raise NotAPromptError(f"{where} has a part that is {named(part)}, not an object with type and text")
    fields = cast(dict[str, Any], part)
    if fields.get("type") != "text":
        raise NotAPromptError(f"{where} has a part of type {fields.get('type')!r}; only text can be a prompt")
    if not isinstance(fields.get("text"), str):
        raise NotAPromptError(f"{where} has a text part whose text is {named(fields.get('text'))}")
    return checked(fields["text"])


def _until_the_user_spoke(messages: list[Message]) -> list[Message]:
    last = len(messages)
    while last and messages[last - 1].role == "assistant":
        last -= 1
    return messages[:last]


def _check_turns(messages: list[Message]) -> None:
    if not messages:
        raise NotAPromptError("there is no turn of the user's")
    if messages[-1].role == "assistant":
        raise NotAPromptError("it ends with the assistant's turn; `drop_last_assistant_turns: true` takes that off")
    if messages[-1].role == "system":
        raise NotAPromptError("it ends with a system message, not with the user's turn")
    for number, message in enumerate(messages, 1):
        if not message.content.strip():
            raise NotAPromptError(f"empty text in turn {number}, the {message.role}'s")
