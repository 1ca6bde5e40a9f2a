# transformers' tokenizers are only partly typed; ids and text leave this module typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""A Hugging Face tokenizer behind the `Tokenizer` Protocol. Works without torch; loaded by name."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer

from services.policy.drawing.prompts import RenderError


class HfTokenizer:
    """See `Tokenizer`; from the tokenizer files of a weights directory. Safe for threads, one at a time."""

    def __init__(self, directory: Path) -> None:
        # Fast tokenizers refuse to be changed while another thread encodes, and encoding may change them.
        self._busy = threading.Lock()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )

    @property
    def has_chat_template(self) -> bool:
        """See `Tokenizer.has_chat_template`."""
        return bool(self._tokenizer.chat_template)

    def encode_chat(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> list[int]:
        """See `Tokenizer.encode_chat`. The template writes its own BOS, so the tokenizer must not add one."""
        return self._guarded(
            lambda: self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False, **variables
            ),
            "the model's chat template",
        )

    def encode_text(self, text: str) -> list[int]:
        """See `Tokenizer.encode_text`. A text that brings its own BOS gets no second; an appended EOS is taken off."""
        bos, eos = self._tokenizer.bos_token, self._tokenizer.eos_token
        own_bos = bool(bos) and text.startswith(bos)
        ids = self._guarded(
            lambda: self._tokenizer(text, add_special_tokens=not own_bos, verbose=False)["input_ids"], "the tokenizer"
        )
        if ids and eos and ids[-1] == self._tokenizer.eos_token_id and not text.endswith(eos) and len(ids) > 1:
            return ids[:-1]
        return ids

    def decode(self, ids: list[int]) -> str:
        """See `Tokenizer.decode`."""
        with self._busy:
            return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _guarded(self, encode: Callable[[], Any], what: str) -> list[int]:
        try:
            with self._busy:
                return [int(token) for token in encode()]
        except (TemplateError, UnicodeError, TypeError, ValueError, LookupError) as error:
            # A template refuses by `raise_exception`, in its author's own words; anything else is a fault of it.
            verb = "refuses it" if type(error) is TemplateError else "fails on it"
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RenderError(f"{what} {verb}: {reason}") from error
