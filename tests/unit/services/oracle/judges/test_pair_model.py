# transformers is only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""The pair model judge against golden strings and one plain transformers forward for each question."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.oracle.judge import Comparison, Judge, JudgeBuildError, build_judge
from services.oracle.judges.local.pair_model import LLAMA3_HEADER, QuestionFormat, render_content, render_context
from shared.contracts.judges import PairModelJudge
from shared.contracts.records import Message
from tests.support.tiny_judges import make_pair_model, set_chat_template

torch.set_num_threads(1)

PROMPT = [
    Message(role="user", content="Q1"),
    Message(role="assistant", content="A1"),
    Message(role="user", content="Q2"),
]
RESPONSES = ["one", "a much longer response than that", "é 日本 🙂"]
LLAMA3_LIKE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pair_model(tmp_path_factory.mktemp("judge") / "pm", seed=11)


def judge_of(directory: Path, max_tokens: int = 3072) -> Judge:
    return build_judge(PairModelJudge(path=str(directory), batch_size=4, max_tokens=max_tokens), device="cpu")


def every_pair() -> list[Comparison]:
    return [Comparison(PROMPT, a, b) for a in RESPONSES for b in RESPONSES if a != b]


def test_the_context_is_rendered_as_in_the_training_of_the_published_models() -> None:
    assert render_context(PROMPT[:1]) == "\n\n<turn> user\n Q1\n"
    assert render_context(PROMPT) == "\n\n<turn> user\n Q1\n<turn> assistant\n A1\n<turn> user\n Q2\n"


def test_a_system_message_opens_the_users_turn_because_the_format_has_no_system_role() -> None:
    system = Message(role="system", content="S")
    assert render_context([system, *PROMPT[:1]]) == "\n\n<turn> user\n S\n\nQ1\n"
    assert render_context([system]) == "\n\n<turn> user\n S\n"


def test_the_content_ends_with_a_space_and_a_newline() -> None:
    expected = "[CONTEXT] \n\n<turn> user\n Q1\n [RESPONSE A] first [RESPONSE B] second \n"
    assert render_content(PROMPT[:1], "first", "second") == expected


def test_a_question_holds_no_bos_and_ends_with_the_assistants_header(directory: Path) -> None:
    question = QuestionFormat(AutoTokenizer.from_pretrained(str(directory)))
    assert question.text("hello") == "[user]hello\n[assistant]"
    assert 1 not in question.encode("hello <s> again"), "1 is the BOS"


def test_llama_3s_header_is_added_where_the_template_never_writes_it(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(make_pair_model(tmp_path / "pm", seed=1)))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start_header_id|>", "<|end_header_id|>"]})
    user = "<|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|>"
    tokenizer.chat_template = LLAMA3_LIKE
    assert QuestionFormat(tokenizer).text("hello") == user + LLAMA3_HEADER
    tokenizer.chat_template = LLAMA3_LIKE + r"{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    assert QuestionFormat(tokenizer).text("hello") == user + LLAMA3_HEADER


def test_a_probability_is_the_mean_of_both_orders_of_direct_forwards(directory: Path) -> None:
    """p_A is the softmax over the logits of A and B alone; P = (p_A[a first] + 1 - p_A[b first]) / 2."""
    model = AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    a_token, b_token = tokenizer.convert_tokens_to_ids(["A", "B"])

    def p_a(first: str, second: str) -> float:
        turns = [{"role": "user", "content": render_content(PROMPT, first, second)}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True).replace("<s>", "")
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -1]
        return float(torch.softmax(logits[[a_token, b_token]], dim=0)[0])

    comparisons = every_pair()
    for comparison, opinion in zip(comparisons, judge_of(directory).compare(comparisons), strict=True):
        given, swapped = p_a(comparison.first, comparison.second), 1 - p_a(comparison.second, comparison.first)
        assert opinion.status == "ok"
        assert opinion.probability_given == pytest.approx(given, abs=1e-4)
        assert opinion.probability_swapped == pytest.approx(swapped, abs=1e-4)
        assert opinion.probability == pytest.approx((given + swapped) / 2, abs=1e-4)


def test_exchanging_the_responses_exchanges_the_probability(directory: Path) -> None:
    judge = judge_of(directory)
    for comparison in every_pair():
        [forward] = judge.compare([comparison])
        [backward] = judge.compare([Comparison(PROMPT, comparison.second, comparison.first)])
        assert forward.probability is not None
        assert backward.probability is not None
        assert forward.probability + backward.probability == pytest.approx(1.0, abs=1e-6)


def test_a_response_against_itself_ties(directory: Path) -> None:
    [opinion] = judge_of(directory).compare([Comparison(PROMPT, "same", "same")])
    assert opinion.status == "tie"
    assert opinion.probability == 0.5


def test_an_over_long_question_is_an_abstention(directory: Path) -> None:
    opinions = judge_of(directory, max_tokens=200).compare(
        [Comparison(PROMPT, "short", "x" * 300), Comparison(PROMPT, "short", "other")]
    )
    assert [opinion.status for opinion in opinions] == ["abstain", "ok"]
    assert "max_tokens = 200" in str(opinions[0].error)


def test_a_question_of_five_megabytes_is_an_abstention_before_it_is_tokenised(directory: Path) -> None:
    """At 200 tokens of 64 bytes the limit is 12,800; tokenising would hold the interpreter."""
    [opinion] = judge_of(directory, max_tokens=200).compare([Comparison(PROMPT, "short", "x" * 5_000_000)])
    assert (opinion.status, opinion.probability) == ("abstain", None)
    assert "limit 12800 (64 for each of 200 tokens)" in str(opinion.error)


def test_a_tokenizer_that_cannot_ask_the_question_is_refused_naming_path(tmp_path: Path) -> None:
    directory = make_pair_model(tmp_path / "pm", seed=2)
    faults = {
        None: "no chat template",
        "{% for message in messages %}{{ message.content }}{% endfor %}": "no assistant header",
        "{{ raise_exception('never') }}": "fails on a user message",
    }
    for template, reason in faults.items():
        set_chat_template(directory, template)
        with pytest.raises(JudgeBuildError, match=reason) as caught:
            judge_of(directory)
        assert caught.value.field == "path"


def test_answers_that_are_no_single_token_are_refused() -> None:
    class TwoTokens:
        chat_template = "{{ messages }}"
        unk_token_id = 0

        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": [5, 6] if text == "B" else [4]}

    with pytest.raises(JudgeBuildError, match="no single token for the answer 'B'"):
        QuestionFormat(TwoTokens())
