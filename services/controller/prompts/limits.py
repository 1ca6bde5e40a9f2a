"""How much of a prompt file is read at most, so that a small file cannot take much memory."""

from dataclasses import dataclass

FREE_BYTES = 64 << 20
"""So much may come of the smallest file: below it, how far a file expands is nobody's concern."""


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """`rows` of a set, `row_bytes` of a row; `ratio` is how many times its own size a compressed file may become."""

    rows: int = 2_000_000
    row_bytes: int = 1 << 20
    ratio: int = 200

    def too_long(self) -> str:
        """Why a row is left out."""
        return f"longer than {self.row_bytes:,} bytes, which is what INPO_MAX_PROMPT_ROW_BYTES allows"

    def too_many(self) -> str:
        """Why a set is refused."""
        return (
            f"more than {self.rows:,} rows: set `limit`, or have whoever runs the controller raise INPO_MAX_PROMPT_ROWS"
        )

    def expands(self, what: str, compressed: int, uncompressed: int) -> str | None:
        """Why compressed bytes are not read further; None where they are within the limits."""
        if uncompressed <= max(FREE_BYTES, self.ratio * compressed):
            return None
        return (
            f"{what}: {compressed:,} bytes become {uncompressed:,} or more; INPO_MAX_PROMPT_RATIO allows "
            f"{self.ratio} times as many: give it uncompressed, or have that raised"
        )
