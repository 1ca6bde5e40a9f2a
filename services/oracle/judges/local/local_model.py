# transformers' auto classes and tokenizers are untyped; what leaves this module is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Judges that are Hugging Face models in this process: loading, identity, batches of token ids.

In float32: probabilities near 1/2 decide, and bfloat16 logits differ by more than such decisions.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from services.oracle.judge import JudgeBuildError
from shared.contracts.judges import PairModelJudge, RewardModelJudge
from shared.contracts.rest.judging import JudgeIdentity

ModelSpec = RewardModelJudge | PairModelJudge
LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)
_LOSSES = ("missing_keys", "mismatched_keys", "error_msgs")

# A load that fails says so in its exception; the progress bar and the report would only repeat it on stderr.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A complete model in eval mode, its tokenizer, and where it computes."""

    model: PreTrainedModel
    tokenizer: Any
    device: torch.device
    revision: str


def load(auto_class: Any, spec: ModelSpec, device: str, **kwargs: Any) -> LocalModel:
    """The model of `spec.path`; `JudgeBuildError` when there is none, or when a tensor of it would be made up.

    transformers fills a missing head with random numbers and goes on; such a judge would label at random.
    """
    directory = Path(spec.path)
    revision = None if directory.is_dir() else spec.revision
    common: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.path, **common)
        model, info = auto_class.from_pretrained(
            spec.path, dtype=torch.float32, output_loading_info=True, use_safetensors=True, **common, **kwargs
        )
    except LOAD_ERRORS as error:
        raise JudgeBuildError("path", f"cannot load {spec.path} as a {spec.kind}: {error}") from error
    for loss in _LOSSES:
        if info.get(loss):
            names = ", ".join(sorted(str(name) for name in info[loss])[:3])
            raise JudgeBuildError("path", f"{spec.path} is no complete {spec.kind}: {loss.replace('_', ' ')} {names}")
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise JudgeBuildError("path", f"{spec.path}: tensor {name} holds NaN or infinity")
    target = _device(device)
    return LocalModel(model.to(target).eval(), tokenizer, target, _revision(model, spec, tokenizer, directory))


def identity(spec: ModelSpec, revision: str, *, transitive: bool) -> JudgeIdentity:
    """The judge's identity: its path names it, weights, tokenizer, template and length limit are its revision."""
    return JudgeIdentity(id=spec.path, revision=revision, kind=spec.kind, transitive=transitive, both_orders=True)


def batches(sequences: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Indices of the sequences in batches of similar length, the longest first: padding is wasted work."""
    order = sorted(range(len(sequences)), key=lambda index: (-len(sequences[index]), index))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pad_right(
    sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T] padded on the right, and their attention mask [B, T]."""
    longest = max(len(sequence) for sequence in sequences)
    rows = [[*sequence, *[pad_id] * (longest - len(sequence))] for sequence in sequences]
    mask = [[1] * len(sequence) + [0] * (longest - len(sequence)) for sequence in sequences]
    return torch.tensor(rows, device=device), torch.tensor(mask, device=device)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _revision(model: Any, spec: ModelSpec, tokenizer: Any, directory: Path) -> str:
    commit = getattr(model.config, "_commit_hash", None)
    weights = commit if isinstance(commit, str) else _files_digest(directory)
    text = json.dumps([spec.kind, weights, str(tokenizer.chat_template), spec.max_tokens])
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _files_digest(directory: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(path for path in directory.iterdir() if path.is_file()):
        with file.open("rb") as stream:
            total.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
