# regex has no types of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The part of a response that judges see, such as what comes after `</think>`. What is trained on stays whole."""

from typing import Any

import regex

from shared.contracts.text_limits import MAX_MATCHED_BYTES, num_bytes

LIMIT_S = 1.0
MAX_SLOW = 4


class NoPartError(ValueError):
    """The response has no part that could be judged; the message says why."""


class JudgedPart:
    """Cuts responses by `oracle.judged_part`; without one they stay as they are. For one shard: it forgets nothing.

    A pattern may backtrack for longer than anybody lives, and who writes the responses is a model: the search in one
    response ends after `limit_s`, and after `MAX_SLOW` such responses no other is searched.
    """

    def __init__(self, pattern: str | None, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._known: dict[str, str | NoPartError] = {}
        self._num_slow = 0
        self._compiled: Any = None
        self._refusal: str | None = None
        if pattern is not None:
            try:
                self._compiled = regex.compile(pattern)
            except regex.error as error:
                self._refusal = f"oracle.judged_part is not a regular expression: {error}"

    def of(self, response: str) -> str:
        """Group 1 of the first match, or all of it where the pattern has no group; `NoPartError` when that is blank."""
        if self._compiled is None and self._refusal is None:
            return response
        if response not in self._known:
            try:
                self._known[response] = self._cut(response)
            except NoPartError as error:
                self._known[response] = error
        found = self._known[response]
        if isinstance(found, NoPartError):
            raise found
        return found

    def _cut(self, response: str) -> str:
        if self._refusal is None and self._num_slow >= MAX_SLOW:
            self._refusal = f"oracle.judged_part took more than {self._limit_s:g} s in each of {MAX_SLOW} responses"
        if self._refusal is not None:
            raise NoPartError(self._refusal)
        if (num := num_bytes([response])) > MAX_MATCHED_BYTES:
            raise NoPartError(f"a response has {num} bytes; oracle.judged_part is searched in {MAX_MATCHED_BYTES}")
        try:
            match = self._compiled.search(response, timeout=self._limit_s)
        except TimeoutError:
            self._num_slow += 1
            raise NoPartError(
                f"oracle.judged_part takes more than {self._limit_s:g} s in a response: it backtracks, simplify it"
            ) from None
        part = None if match is None else match.group(min(1, self._compiled.groups))
        if part is None:
            raise NoPartError("oracle.judged_part is not found in a response")
        if not part.strip():
            raise NoPartError("oracle.judged_part finds an empty text in a response")
        return str(part)
