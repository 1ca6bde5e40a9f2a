# torch, tokenizers and transformers are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Tiny real judges: seeded Llamas as sequence classifier and as A/B model, byte-level, one token a letter."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tests.support.tiny_models import BOS, EOS, PAD, VOCAB_SIZE, make_tokenizer


def make_reward_model(
    directory: Path, seed: int, *, num_labels: int = 1, chat_template: bool = True, pad_token: bool = True
) -> Path:
    """A sequence classifier with `num_labels`; without `pad_token` its config declares none. Returns the directory."""
    config = _config(pad_token=pad_token)
    config.num_labels = num_labels
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForSequenceClassification(config).save_pretrained(directory)
    make_tokenizer(directory, chat_template=chat_template)
    return directory


def make_pair_model(directory: Path, seed: int, *, chat_template: bool = True) -> Path:
    """A causal model whose tokenizer has single tokens for A and B; returns the directory."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(_config(pad_token=True)).save_pretrained(directory)
    make_tokenizer(directory, chat_template=chat_template)
    return directory


def set_chat_template(directory: Path, template: str | None) -> None:
    """Replace the directory's chat template, also where it lives in a file of its own."""
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(directory)


def _config(*, pad_token: bool) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.15,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD if pad_token else None,
    )
