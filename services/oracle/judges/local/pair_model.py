# transformers' tokenizers and model outputs are untyped; probabilities leave this module as floats.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A causal language model that answers A or B, in the format of RLHFlow's pair-preference models (arXiv 2405.07863).

P_A is the softmax over the two logits of the tokens `A` and `B` at the last position; the question is asked in both
orders, P(a beats b) = (P_A[a is A] + 1 - P_A[b is A]) / 2. The question holds no BOS at all, as in training.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM

from services.oracle.judge import Comparison, Judge, JudgeBuildError, Opinion, abstention, failure, opinion
from services.oracle.judges.local.local_model import LocalModel, batches, identity, load, pad_right
from shared.contracts.judges import PairModelJudge
from shared.contracts.records import Message
from shared.contracts.rest.judging import JudgeIdentity
from shared.contracts.text_limits import too_long_for

LLAMA3_HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"


def render_context(prompt: Sequence[Message]) -> str:
    """The conversation in the plain format of training. It has no system role: system text opens the next user turn."""
    turns: list[str] = []
    system = ""
    for message in prompt:
        if message.role == "system":
            system += f"{message.content}\n\n"
            continue
        turns.append(f"\n<turn> {message.role}\n {system if message.role == 'user' else ''}{message.content}")
        system = "" if message.role == "user" else system
    if system:
        turns.append(f"\n<turn> user\n {system.rstrip()}")
    return "\n" + "".join(turns) + "\n"


def render_content(prompt: Sequence[Message], response_a: str, response_b: str) -> str:
    """The user message that asks which response is better; the trailing space and newline are part of the format."""
    return f"[CONTEXT] {render_context(prompt)} [RESPONSE A] {response_a} [RESPONSE B] {response_b} \n"


class QuestionFormat:
    """Turns a content into token ids that end where the model says A or B."""

    def __init__(self, tokenizer: Any) -> None:
        """`JudgeBuildError` when the tokenizer cannot ask such a question."""
        self._tokenizer = tokenizer
        if not tokenizer.chat_template:
            raise JudgeBuildError("path", "its tokenizer has no chat template, which a pair_model needs")
        self.answers = _single_token(tokenizer, "A"), _single_token(tokenizer, "B")
        self._header = self._missing_header()

    def text(self, content: str) -> str:
        """The rendered question, without BOS and with the assistant's header at the end."""
        rendered = self._render(content, add_generation_prompt=True) + self._header
        bos = self._tokenizer.bos_token
        return rendered.replace(bos, "") if bos else rendered

    def encode(self, content: str) -> list[int]:
        """Token ids of `text`, to which the tokenizer adds nothing."""
        return list(self._tokenizer(self.text(content), add_special_tokens=False, verbose=False)["input_ids"])

    def _render(self, content: str, *, add_generation_prompt: bool) -> str:
        turns = [{"role": "user", "content": content}]
        return str(
            self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
        )

    def _missing_header(self) -> str:
        """Empty where the template writes the assistant's header, on request or unasked; else Llama 3's."""
        try:
            plain = self._render("question", add_generation_prompt=False)
            prompted = self._render("question", add_generation_prompt=True)
        except (TemplateError, ValueError, TypeError) as error:
            raise JudgeBuildError("path", f"its chat template fails on a user message: {error}") from error
        if prompted != plain or prompted.endswith(LLAMA3_HEADER):
            return ""
        vocabulary = self._tokenizer.get_vocab()
        if "<|start_header_id|>" in vocabulary and "<|end_header_id|>" in vocabulary:
            return LLAMA3_HEADER
        raise JudgeBuildError(
            "path", "its chat template writes no assistant header, and its tokenizer does not know Llama 3's"
        )


class PairModel:
    """See `Judge`. An over-long question is an abstention; equal questions of a batch are asked once."""

    def __init__(self, spec: PairModelJudge, loaded: LocalModel, question: QuestionFormat) -> None:
        self._spec = spec
        self._loaded = loaded
        self._question = question

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return identity(self._spec, self._loaded.revision, transitive=False)

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """See `Judge.compare`."""
        started = time.perf_counter()
        contents = [_both_orders(comparison) for comparison in comparisons]
        answered = self._ask(list(dict.fromkeys(content for orders in contents for content in orders)))
        latency_s = time.perf_counter() - started
        return [_opinion(answered[given], answered[swapped], latency_s) for given, swapped in contents]

    def _ask(self, contents: Sequence[str]) -> dict[str, "float | Opinion"]:
        answered: dict[str, float | Opinion] = {}
        encoded: list[tuple[str, list[int]]] = []
        for content in contents:
            if too_long := too_long_for(self._spec.max_tokens, [content]):
                answered[content] = abstention(f"the question is over-long: {too_long}", 0.0)
                continue
            try:
                ids = self._question.encode(content)
            except (TemplateError, ValueError, TypeError) as error:
                answered[content] = abstention(f"the question cannot be tokenised: {error}", 0.0)
                continue
            if len(ids) > self._spec.max_tokens:
                reason = f"the question has {len(ids)} tokens, more than max_tokens = {self._spec.max_tokens}"
                answered[content] = abstention(reason, 0.0)
            else:
                encoded.append((content, ids))
        for batch in batches([ids for _, ids in encoded], self._spec.batch_size):
            answered.update(self._ask_batch([encoded[index] for index in batch]))
        return answered

    def _ask_batch(self, batch: Sequence[tuple[str, list[int]]]) -> dict[str, "float | Opinion"]:
        try:
            gaps = self._forward([ids for _, ids in batch])
        except RuntimeError as error:
            failed = failure(f"the pair model failed: {type(error).__name__}: {error}", 0.0)
            return {content: failed for content, _ in batch}
        return {content: _probability(*gap) for (content, _), gap in zip(batch, gaps, strict=True)}

    def _forward(self, sequences: Sequence[Sequence[int]]) -> list[tuple[float, float]]:
        """Logits of A and B behind each sequence.

        Logits are asked for at the batch's last positions only: B x T x V of them would not fit for long questions.
        """
        ids, mask = pad_right(sequences, 0, self._loaded.device)
        ends = [len(sequence) - 1 for sequence in sequences]
        kept = sorted(set(ends))
        with torch.inference_mode():
            output = self._loaded.model(
                input_ids=ids,
                attention_mask=mask,
                use_cache=False,
                logits_to_keep=torch.tensor(kept, device=self._loaded.device),
            )
        # A model that does not know the argument gives logits for every position.
        columns = ends if output.logits.shape[1] != len(kept) else [kept.index(end) for end in ends]
        last = output.logits[torch.arange(len(ends)), torch.tensor(columns)].float().cpu()
        a, b = self._question.answers
        return [(float(row[a]), float(row[b])) for row in last]


def build(spec: PairModelJudge, device: str) -> Judge:
    """The judge; `JudgeBuildError` when the path holds no causal model, or its tokenizer cannot ask the question."""
    loaded = load(AutoModelForCausalLM, spec, device)
    return PairModel(spec, loaded, QuestionFormat(loaded.tokenizer))


def _single_token(tokenizer: Any, answer: str) -> int:
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise JudgeBuildError("path", f"its tokenizer has no single token for the answer {answer!r}")
    return int(ids[0])


def _both_orders(comparison: Comparison) -> tuple[str, str]:
    given = render_content(comparison.prompt, comparison.first, comparison.second)
    return given, render_content(comparison.prompt, comparison.second, comparison.first)


def _probability(logit_a: float, logit_b: float) -> float:
    """Softmax over the two logits alone; NaN when either is not finite, which `opinion` turns into a failure."""
    if not (math.isfinite(logit_a) and math.isfinite(logit_b)):
        return math.nan
    top = max(logit_a, logit_b)
    weight_a, weight_b = math.exp(logit_a - top), math.exp(logit_b - top)
    return weight_a / (weight_a + weight_b)


def _opinion(given: "float | Opinion", swapped: "float | Opinion", latency_s: float) -> Opinion:
    for answer in (given, swapped):
        if isinstance(answer, Opinion):
            return Opinion(answer.status, None, None, answer.error, latency_s)
    assert isinstance(given, float)
    assert isinstance(swapped, float)
    return opinion(given, 1.0 - swapped, latency_s)
