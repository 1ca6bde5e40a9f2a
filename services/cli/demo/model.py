# transformers and tokenizers are only partly typed; paths leave this module.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The demo's own instruction model: text, tokenizer, chat template and weights, made from nothing in seconds.

It answers "What is the sun?" in three styles with shares `STYLE_SHARES`. Shapes: N conversations, T tokens.
"""

import hashlib
import json
import math
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from services.oracle.rules import styles

# By style, as the text asks for them. They decide how far the reference policy is from the Nash policy.
STYLE_SHARES = {1: 0.6, 2: 0.31, 3: 0.09}
NUM_ADJECTIVES = 3
NUM_STEPS = 500
LEARNING_RATE = 1e-2
SEED = 20_240_700

PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT = "<|pad|>", "<|bos|>", "<|eos|>", "<|unk|>", "<|user|>", "<|assistant|>"
_SPECIAL = [PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT]
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% else %}{{ '<|user|>' + message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# A word takes the space before it along, so that decoding gives back exactly the text.
_PIECE = " ?[A-Za-z]+|[^A-Za-z]"


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A finished model directory and the prompts that it answers (JSONL, column `prompt`)."""

    directory: Path
    prompts: Path


def demo_model(cache_dir: Path) -> DemoModel:
    """The model below `cache_dir`, built when there is none of this recipe. Takes seconds on one core.

    A directory is finished or absent: it is built beside its place and renamed.
    """
    directory = cache_dir / f"demo-model-{recipe()}"
    if not directory.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        building = cache_dir / f".{directory.name}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            _build(building)
            building.rename(directory)
        except OSError:
            # Somebody else finished the same model first.
            if not directory.exists():
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return DemoModel(directory, directory / "prompts.jsonl")


def recipe() -> str:
    """Digest of everything that the model is made from."""
    sources = (Path(__file__), Path(styles.__file__))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def _build(directory: Path) -> None:
    transformers_logging.disable_progress_bar()
    tokenizer = _tokenizer()
    threads = torch.get_num_threads()
    try:
        # Sums in one order: the same model on any number of cores. More threads gain nothing at this size.
        torch.set_num_threads(1)
        model = _trained(tokenizer)
    finally:
        torch.set_num_threads(threads)
    directory.mkdir()
    model.save_pretrained(str(directory))
    tokenizer.save_pretrained(str(directory))
    lines = [json.dumps({"prompt": styles.question(topic)}) + "\n" for topic in styles.TOPICS]
    (directory / "prompts.jsonl").write_text("".join(lines))


def _tokenizer() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.Split(Regex(_PIECE), "isolated")
    words: set[str] = set()
    for _, prompt, answer in _conversations():
        for text in (prompt, answer):
            words.update(piece for piece, _ in split.pre_tokenize_str(text))
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *sorted(words)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.pre_tokenizer = split
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=_CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )


def _conversations() -> list[tuple[float, str, str]]:
    """(share, prompt, answer) of all conversations; the shares of one adjective a topic and style sum to 1."""
    found: list[tuple[float, str, str]] = []
    for topic in styles.TOPICS:
        for style, share in STYLE_SHARES.items():
            answers = styles.answers(topic, style)
            each = share / len(styles.TOPICS)
            found += [(each, styles.question(topic), answer) for answer in answers]
    return found


def _trained(tokenizer: Any) -> LlamaForCausalLM:
    """AdamW on the expected loss of an answer's tokens: the shares are learned without sampling noise.

    A step sees every topic in every style, with one adjective of each in turn.
    """
    ids, labels, shares = _batch(tokenizer)
    turns = _turns()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(_config(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    for step in range(NUM_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _schedule(step)
        rows = turns[step % len(turns)]
        logits: Tensor = model(input_ids=ids[rows], use_cache=False).logits[:, :-1]
        losses = functional.cross_entropy(logits.transpose(1, 2), labels[rows, 1:], ignore_index=-100, reduction="none")
        optimizer.zero_grad(set_to_none=True)
        (losses.sum(dim=1) * shares[rows]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def _turns() -> list[list[int]]:
    """Row numbers of `_conversations`, dealt out so that each turn holds every topic and style once."""
    rows = range(len(_conversations()))
    return [
        [row for row in rows if (row + row // NUM_ADJECTIVES) % NUM_ADJECTIVES == turn]
        for turn in range(NUM_ADJECTIVES)
    ]


def _schedule(step: int) -> float:
    warmup = min(1.0, (step + 1) / 20)
    return warmup * 0.5 * (1.0 + math.cos(math.pi * step / NUM_STEPS))


def _config(tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=2,
        # Heads of 32: vLLM's attention on a CPU takes no narrower ones.
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_dropout=0.0,
    )


def _batch(tokenizer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and labels [N, T], right-padded, labels -100 outside the answer; shares [N]."""
    conversations = _conversations()
    rows: list[tuple[list[int], int]] = []
    for _, prompt, answer in conversations:
        asked = [{"role": "user", "content": prompt}]
        said = [*asked, {"role": "assistant", "content": answer}]
        start = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(said, return_dict=False)
        rows.append((whole, len(start)))
    width = max(len(whole) for whole, _ in rows)
    ids = torch.full((len(rows), width), int(tokenizer.pad_token_id))
    labels = torch.full((len(rows), width), -100)
    for index, (whole, start) in enumerate(rows):
        ids[index, : len(whole)] = torch.tensor(whole)
        labels[index, start : len(whole)] = torch.tensor(whole[start:])
    return ids, labels, torch.tensor([share for share, _, _ in conversations])
