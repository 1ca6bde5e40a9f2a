# transformers' tokenizers are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Rendering: format, limit and what is listed as skipped, with the tiny byte-level tokenizer."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from services.policy.drawing.hf_tokenizer import HfTokenizer
from services.policy.drawing.prompts import PromptFormat, Renderer, prompt_limit
from shared.contracts.records import Message, Prompt, Skipped
from tests.support import tiny_models
from tests.support.data import outside_data
from tests.support.tiny_models import BOS, EOS


def tokenizer(directory: Path, *, chat_template: bool) -> HfTokenizer:
    tiny_models.make_tokenizer(directory, chat_template=chat_template)
    return HfTokenizer(directory)


def prompt(*turns: tuple[str, str]) -> Prompt:
    messages = [Message.model_validate({"role": role, "content": content}) for role, content in turns]
    return Prompt(prompt_id="p1", messages=messages)


def skipped(result: list[int] | Skipped) -> str:
    assert isinstance(result, Skipped)
    assert result.id == "p1"
    return result.reason


def ids(result: list[int] | Skipped) -> list[int]:
    assert not isinstance(result, Skipped), result
    return result


def test_chat_is_the_templates_text_with_one_bos_and_the_generation_prompt(tmp_path: Path) -> None:
    tok = tokenizer(tmp_path, chat_template=True)
    found = ids(Renderer(tok, "auto", 100).render(prompt(("system", "be"), ("user", "hi"))))
    assert found.count(BOS) == 1
    assert found[0] == BOS
    assert tok.decode(found) == "[system]be\n[user]hi\n[assistant]"


def test_text_is_the_users_text_with_one_bos(tmp_path: Path) -> None:
    tok = tokenizer(tmp_path, chat_template=False)
    found = ids(Renderer(tok, "auto", 100).render(prompt(("user", "Once upon"))))
    assert found[0] == BOS
    assert len(found) == 1 + len("Once upon")
    assert tok.decode(found) == "Once upon"


def test_text_that_brings_its_own_bos_gets_no_second(tmp_path: Path) -> None:
    tok = tokenizer(tmp_path, chat_template=False)
    assert tok.encode_text("<s>ab") == tok.encode_text("ab")


def test_an_eos_that_the_tokenizer_appends_is_taken_off(tmp_path: Path) -> None:
    """The policy would take it for the end of everything. One that the text itself ends with stays."""
    tokenizer(tmp_path, chat_template=False)
    file = tmp_path / "tokenizer.json"
    plain = HfTokenizer(tmp_path).encode_text("ab")
    settings = json.loads(file.read_text())
    settings["post_processor"]["single"].append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    settings["post_processor"]["special_tokens"]["</s>"] = {"id": "</s>", "ids": [EOS], "tokens": ["</s>"]}
    file.write_text(json.dumps(settings))
    assert HfTokenizer(tmp_path).encode_text("ab") == plain


def test_text_can_be_asked_of_a_tokenizer_with_a_chat_template(tmp_path: Path) -> None:
    tok = tokenizer(tmp_path, chat_template=True)
    assert tok.decode(ids(Renderer(tok, "text", 100).render(prompt(("user", "plain"))))) == "plain"


def test_chat_without_a_template_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts\.format is `chat`.*take format `text`"):
        Renderer(tokenizer(tmp_path, chat_template=False), "chat", 100)


@pytest.mark.parametrize(
    "turns",
    [[("system", "be brief"), ("user", "hi")], [("user", "a"), ("assistant", "b"), ("user", "c")]],
    ids=["system prompt", "conversation"],
)
def test_a_conversation_without_a_template_is_skipped_with_the_remedy(
    tmp_path: Path, turns: list[tuple[str, str]]
) -> None:
    renderer = Renderer(tokenizer(tmp_path, chat_template=False), "auto", 100)
    assert "use a model with a chat template" in skipped(renderer.render(prompt(*turns)))


def test_a_prompt_that_ends_with_the_assistant_is_skipped(tmp_path: Path) -> None:
    renderer = Renderer(tokenizer(tmp_path, chat_template=True), "auto", 100)
    assert "last message" in skipped(renderer.render(prompt(("user", "a"), ("assistant", "b"))))


@pytest.mark.parametrize(("length", "fits"), [(9, True), (10, False)])
def test_an_over_long_prompt_is_listed_and_never_cut(tmp_path: Path, length: int, fits: bool) -> None:
    """BOS and one token a character against a limit of 10."""
    result = Renderer(tokenizer(tmp_path, chat_template=False), "text", 10).render(prompt(("user", "x" * length)))
    if fits:
        assert len(ids(result)) == 10
    else:
        assert skipped(result) == "over-long: 11 tokens, limit 10"


@pytest.mark.parametrize("prompt_format", ["chat", "text"])
def test_a_prompt_of_five_megabytes_is_listed_before_it_is_tokenised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt_format: PromptFormat
) -> None:
    """Tokenising holds the interpreter, and nobody's heartbeat beats meanwhile."""
    tok = tokenizer(tmp_path, chat_template=True)
    for name in ("encode_chat", "encode_text"):
        monkeypatch.setattr(tok, name, None)
    result = Renderer(tok, prompt_format, 1000).render(prompt(("user", "x" * 5_000_000)))
    assert skipped(result) == "over-long: 5000000 bytes, limit 64000 (64 for each of 1000 tokens)"


def test_the_limit_leaves_room_for_a_whole_response() -> None:
    assert prompt_limit(1024, 256, None) == 1024
    assert prompt_limit(1024, 256, 4096) == 1024
    assert prompt_limit(1024, 256, 512) == 256
    with pytest.raises(ValueError, match=r"sampling\.max_new_tokens = 512"):
        prompt_limit(1024, 512, 512)


def test_a_template_that_refuses_is_a_listed_skip(tmp_path: Path) -> None:
    tokenizer(tmp_path, chat_template=True)
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    (tmp_path / "chat_template.jinja").write_text(template)
    renderer = Renderer(HfTokenizer(tmp_path), "chat", 10)
    assert "no system role" in skipped(renderer.render(prompt(("system", "a"), ("user", "b"))))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "the model's chat template refuses it: roles must alternate"),
        ("{{ messages[0].nothing.at_all }}", "the model's chat template fails on it: 'dict object' has no attribute"),
        ("{{ messages[0].content + 1 }}", "the model's chat template fails on it: can only concatenate str"),
    ],
)
def test_a_templates_own_words_are_told_from_its_faults(tmp_path: Path, template: str, reason: str) -> None:
    tokenizer(tmp_path, chat_template=True)
    (tmp_path / "chat_template.jinja").write_text(template)
    found = skipped(Renderer(HfTokenizer(tmp_path), "chat", 10).render(prompt(("user", "b"))))
    assert found.startswith(reason)
    assert "\n" not in found


QWEN_LIKE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}[assistant]"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}{{ style }}"
)


@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False}, {"enable_thinking": True, "style": "terse"}])
def test_template_variables_give_exactly_what_apply_chat_template_gives(
    tmp_path: Path, variables: dict[str, Any]
) -> None:
    tokenizer(tmp_path, chat_template=True)
    (tmp_path / "chat_template.jinja").write_text(QWEN_LIKE)
    asked = prompt(("system", "be"), ("user", "hi"))
    found = ids(Renderer(HfTokenizer(tmp_path), "auto", 200, variables).render(asked))
    theirs: Any = AutoTokenizer.from_pretrained(str(tmp_path))
    conversation = [message.model_dump() for message in asked.messages]
    text: str = theirs.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True, **variables)
    assert found == theirs(text, add_special_tokens=False)["input_ids"]
    assert text.endswith("</think>") == (variables == {"enable_thinking": False})


def test_variables_that_no_template_could_read_are_an_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts\.chat_template_kwargs are given, but .* no chat template"):
        Renderer(tokenizer(tmp_path, chat_template=False), "auto", 100, {"enable_thinking": False})


@pytest.mark.parametrize("chat_template", [True, False])
def test_a_lone_surrogate_is_a_listed_skip(tmp_path: Path, chat_template: bool) -> None:
    """Validated text cannot hold one; a message built past validation can."""
    broken = Message.model_construct(role="user", content="a\ud800b")
    bad = Prompt.model_construct(prompt_id="p1", messages=[broken], split="train", set=0)
    renderer = Renderer(tokenizer(tmp_path, chat_template=chat_template), "auto", 100)
    assert "not valid Unicode" in skipped(renderer.render(bad))


def test_text_that_renders_to_nothing_is_skipped(tmp_path: Path) -> None:
    tiny_models.make_tokenizer(tmp_path, chat_template=False)
    settings = json.loads((tmp_path / "tokenizer.json").read_text())
    settings["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    assert "no tokens" in skipped(Renderer(HfTokenizer(tmp_path), "text", 10).render(prompt(("user", ""))))


@pytest.mark.parametrize("prompt_format", ["chat", "text"])
def test_naughty_strings_are_rendered_whole_or_listed(tmp_path: Path, prompt_format: PromptFormat) -> None:
    """A byte-level tokenizer can spell every one of the 515; strings of special tokens become those tokens."""
    strings: list[str] = json.loads(outside_data("adversarial/blns.json").read_text())
    renderer = Renderer(tokenizer(tmp_path, chat_template=True), prompt_format, 100_000)
    tok = HfTokenizer(tmp_path)
    for text in strings:
        found = ids(renderer.render(prompt(("user", text))))
        expected = f"[user]{text}\n[assistant]" if prompt_format == "chat" else text
        assert found[0] == BOS
        assert tok.decode(found) == expected.replace("<s>", "").replace("</s>", "")


def test_the_longest_real_prompts_are_listed_with_their_length(tmp_path: Path) -> None:
    """7,240 to 27,586 characters each, against a limit of 1,024 tokens of one byte."""
    lines = gzip.decompress(outside_data("adversarial/longest_real_prompts_25.jsonl.gz").read_bytes()).splitlines()
    renderer = Renderer(tokenizer(tmp_path, chat_template=True), "auto", 1024)
    for line in lines:
        row: dict[str, str] = json.loads(line)
        assert skipped(renderer.render(prompt(("user", row["prompt"])))).startswith("over-long: ")
