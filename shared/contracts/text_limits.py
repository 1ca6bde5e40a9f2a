"""How many bytes a text may have before it is tokenised or matched.

Tokenizers and regular expressions hold the interpreter for as long as a text is long, so they are never given a text to
find out that it is too long. Bytes are counted at once.
"""

from collections.abc import Iterable

BYTES_A_TOKEN = 64
"""More than any tokenizer's tokens have on average: what exceeds it for a limit of tokens would exceed that, too."""

MAX_MATCHED_BYTES = 1 << 20
"""Of all texts that a rule or a regular expression is given at once."""


def num_bytes(texts: Iterable[str]) -> int:
    """How many bytes the texts have in UTF-8, together."""
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def too_long_for(max_tokens: int, texts: Iterable[str]) -> str | None:
    """What to say of texts that cannot have as few tokens as that; None for those that should be tokenised."""
    num, most = num_bytes(texts), BYTES_A_TOKEN * max_tokens
    return f"{num} bytes, limit {most} ({BYTES_A_TOKEN} for each of {max_tokens} tokens)" if num > most else None
