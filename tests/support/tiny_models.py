# torch, tokenizers and transformers are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Tiny real models: seeded Llamas of about 30,000 parameters with a byte-level tokenizer, and their publishing.

`make_model` makes a Hugging Face directory, `perturb` its descendant as training would, `publish` a weight version of
either, with manifest and canary. `direct_log_probs` is the independent witness: one plain transformers forward.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from shared.contracts.weights import Canary, WeightVersion
from shared.store.artifacts.store import DirectoryStore
from shared.store.weights import manifests
from shared.store.weights.store import Candidate, weights_of

PAD, BOS, EOS = 0, 1, 2
VOCAB_SIZE = 259
CANARY_SEQUENCES = [[BOS, 10, 50, 90, 130, 170], [BOS, 200, 3, 77, 41], [BOS, 99, 98, 97, 250, 4, 60, EOS]]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def make_model(
    directory: Path,
    seed: int,
    *,
    tied: bool = True,
    chat_template: bool = True,
    pad_is_eos: bool = False,
    hidden_size: int = 32,
    context: int = 256,
) -> Path:
    """A new model directory with weights drawn from `seed`, its tokenizer, and EOS id 2; returns the directory."""
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.15,
        tie_word_embeddings=tied,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=EOS if pad_is_eos else PAD,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(directory)
    make_tokenizer(directory, chat_template=chat_template, pad_is_eos=pad_is_eos)
    return directory


def make_tokenizer(directory: Path, *, chat_template: bool = True, pad_is_eos: bool = False) -> None:
    """Tokenizer files: <pad> <s> </s>, then one token for each of the 256 bytes; text gets a BOS in front."""
    special = ["<pad>", "<s>", "</s>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>" if pad_is_eos else "<pad>",
    )
    if chat_template:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)


def perturb(source: Path, directory: Path, seed: int, scale: float = 0.02) -> Path:
    """A copy of a model directory with Gaussian noise of `scale` on every weight, as if it had been trained."""
    shutil.copytree(source, directory)
    model = AutoModelForCausalLM.from_pretrained(str(source))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=scale)
    model.save_pretrained(directory)
    return directory


def publish(
    store: DirectoryStore, run: str, number: int, model_directory: Path, parent: WeightVersion | None = None
) -> WeightVersion:
    """A weight version of the model, whole and with its canary, as the trainer publishes one.

    `parent` must be in the store; without one the canary's old and new log-probs are the same.
    """
    candidate = weights_of(store).begin(run, number)
    shutil.copytree(model_directory, candidate.path, dirs_exist_ok=True)
    new = direct_log_probs(model_directory, CANARY_SEQUENCES)
    old = new if parent is None else direct_log_probs(store.path(parent.directory), CANARY_SEQUENCES)
    canary = Canary(sequences=CANARY_SEQUENCES, log_probs=new, parent_log_probs=old)
    (candidate.path / manifests.CANARY).write_text(canary.model_dump_json())
    return finish(store, candidate, parent)


def finish(store: DirectoryStore, candidate: Candidate, parent: WeightVersion | None = None) -> WeightVersion:
    """Write the manifest over whatever the directory holds: also over files that a test has broken."""
    digest = None if parent is None else parent.digest
    return weights_of(store).finish(candidate, parent=digest, num_parameters=0)


def direct_log_probs(model_directory: Path, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
    """The log p of every token after the first, by one unbatched fp32 forward for each sequence."""
    model = AutoModelForCausalLM.from_pretrained(str(model_directory), dtype=torch.float32).eval()
    rows: list[list[float]] = []
    with torch.no_grad():
        for sequence in sequences:
            ids = torch.tensor([list(sequence)])
            log_probs = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), dim=-1)
            rows.append(log_probs.gather(1, ids[0, 1:, None]).squeeze(1).tolist())
    return rows
