"""What a row holds becomes messages, or a sentence that says why not."""

from typing import Any

import pytest

from services.controller.prompts.messages import NotAPromptError, messages_of
from shared.contracts.spec import PromptSource


def _source(**fields: Any) -> PromptSource:
    return PromptSource(path="rows.jsonl", **fields)


def _turns(row: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages_of(row, _source(**fields))]


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_text_parts_are_joined_as_they_stand() -> None:
    parts = [{"type": "text", "text": "Once "}, {"type": "text", "text": "upon"}]
    assert _turns({"prompt": _user(parts)}) == [("user", "Once upon")]


def test_sharegpts_speakers_become_roles() -> None:
    turns = [("system", "be"), ("human", "a"), ("gpt", "b"), ("user", "c"), ("assistant", "d"), ("human", "e")]
    row = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    roles = ["system", "user", "assistant", "user", "assistant", "user"]
    assert _turns(row) == [(role, text) for role, (_, text) in zip(roles, turns, strict=True)]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"conversations": _user("c"), "messages": _user("m"), "prompt": "p"}, "p"),
        ({"conversations": _user("c"), "messages": _user("m"), "prompt": None}, "m"),
        ({"conversations": _user("c"), "other": "o"}, "c"),
    ],
)
def test_a_source_that_names_no_column_takes_prompt_then_messages_then_conversations(
    row: dict[str, Any], text: str
) -> None:
    assert _turns(row) == [("user", text)]


def test_a_column_that_is_named_is_the_only_one_looked_at() -> None:
    with pytest.raises(NotAPromptError, match=r"no column 'prompt'; it has \['messages'\]"):
        _turns({"messages": _user("m")}, column="prompt")


def test_assistant_turns_at_the_end_are_dropped_on_request_only() -> None:
    answered = {"messages": [*_user("q"), {"role": "assistant", "content": "r"}, {"role": "assistant", "content": "s"}]}
    with pytest.raises(NotAPromptError, match="ends with the assistant's turn; `drop_last_assistant_turns: true`"):
        _turns(answered)
    assert _turns(answered, drop_last_assistant_turns=True) == [("user", "q")]


def test_an_answer_in_the_middle_is_kept_when_the_last_one_is_dropped() -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert _turns(row, drop_last_assistant_turns=True) == turns[:3]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"instruction": "Add.", "input": "1 and 2"}, "Add.\n\n1 and 2"),
        ({"instruction": "Tell a story.", "input": ""}, "Tell a story."),
        ({"instruction": "Tell a story.", "input": None}, "Tell a story."),
    ],
)
def test_several_columns_are_joined_by_a_blank_line_and_empty_ones_left_out(row: dict[str, Any], text: str) -> None:
    assert _turns(row, column=["instruction", "input"], system="Be brief.") == [("system", "Be brief."), ("user", text)]


def test_a_column_that_is_mistyped_is_not_an_empty_one() -> None:
    with pytest.raises(NotAPromptError, match=r"no column 'inptu'; it has \['input', 'instruction'\]"):
        _turns({"instruction": "Add.", "input": "1"}, column=["instruction", "inptu"])


def test_a_system_prompt_stays_out_of_a_conversation_that_brings_its_own() -> None:
    row = {"messages": [{"role": "system", "content": "mine"}, *_user("q")]}
    assert _turns(row, system="yours") == [("system", "mine"), ("user", "q")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (_user([{"type": "image_url", "image_url": "x"}]), "turn 1 has a part of type 'image_url'; only text can be a"),
        (_user([{"type": "text", "text": 3}]), "turn 1 has a text part whose text is a number"),
        (_user(["bare"]), "turn 1 has a part that is text, not an object with type and text"),
        (_user(None), "turn 1 is null, not text, nor a list of turns or of text parts"),
        ([{"role": "tool", "content": "x"}], "turn 1 is by 'tool'; known are user (or human), assistant (or gpt) and"),
        ([{"role": ["user"], "content": "x"}], "turn 1 is by ['user']; known are"),
        ([{"from": "human"}], "turn 1 has no value; it has ['from']"),
        ([{"content": "x"}], "turn 1 has no role; it has ['content']"),
        (["bare"], "turn 1 is text, not an object with role and content, or from and value"),
        (3, "the prompt is a number, not text, nor a list of turns or of text parts"),
        ({"a": 1}, "the prompt is an object, not text"),
        ([], "there is no turn of the user's"),
        (" ", "empty text in turn 1, the user's"),
        ([*_user("q"), {"role": "system", "content": "x"}], "it ends with a system message, not with the user's turn"),
        (_user("a\ud800"), "holds characters that are not valid Unicode (lone surrogates)"),
    ],
)
def test_a_row_that_is_no_prompt_is_one_sentence_without_a_librarys_words(value: Any, reason: str) -> None:
    with pytest.raises(NotAPromptError) as caught:
        _turns({"prompt": value})
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)
