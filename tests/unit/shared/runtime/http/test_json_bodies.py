"""Strict JSON, told before anything large is built."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.http import json_bodies
from shared.runtime.http.json_bodies import MAX_DEPTH, MAX_VALUES, json_fault

SIZE = 16 * 2**20
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * (SIZE // 3 - 1) + b"[]]",
        b"[" + b"1," * (SIZE // 2 - 1) + b"1]",
        b"[" + b'"",' * (SIZE // 3 - 1) + b'""]',
        b'"' * SIZE,
    ],
    ids=["lists", "numbers", "strings", "quotes"],
)
def test_sixteen_mebibytes_of_tiny_values_are_refused_within_four_times_their_size(body: bytes) -> None:
    """Built, the lists alone would be 300 MiB."""
    tracemalloc.start()
    try:
        assert json_fault(body) == f"more than {MAX_VALUES} values"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * SIZE


def test_values_are_counted_outside_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_bodies, "MAX_VALUES", 5)
    assert json_fault(rb'["[,,,,,,\"],,[", "\\", 3]') is None
    assert json_fault(b"[1, 2, 3, 4, 5, 6]") is not None


def test_depth_is_counted_outside_of_texts_and_to_the_limit() -> None:
    assert json_fault(b"[" * MAX_DEPTH + b'"[[[["' + b"]" * MAX_DEPTH) is None
    deeper = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
    assert json_fault(deeper) == f"nested deeper than {MAX_DEPTH}"
    assert json_fault(b"[" + b"[]," * 200 + deeper + b"]") == f"nested deeper than {MAX_DEPTH}"
    assert "delimiter" in str(json_fault(b'{"a": [1'))


@given(value=VALUES)
def test_whatever_json_can_say_is_accepted(value: object) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert json_fault(text.encode()) is None
