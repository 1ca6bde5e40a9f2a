"""Seeds that depend only on what is sampled, never on when or where."""

import hashlib


def seed_of(*parts: str | int) -> int:
    """A 63-bit seed, the same for the same parts on every machine.

    Parts are joined with a separator that cannot occur in them unescaped, so ("a", "bc") and ("ab", "c") differ.
    """
    text = "\x1f".join(repr(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def uniform_of(*parts: str | int) -> float:
    """A number in [0, 1) with 53 random bits, the same for the same parts on every machine."""
    return (seed_of(*parts) >> 10) / 2**53
