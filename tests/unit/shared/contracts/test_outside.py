"""What others wrote: data, and nothing but data."""

import pytest

from shared.contracts.outside import MAX_CHARS, cleaned, strict_json
from shared.contracts.records import DeadLetter, Skipped, Verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("é 漢 \U0001f600 \u200d", "é 漢 \U0001f600 \u200d"),
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        ("\x00\x07\x1b[2J\x7f\x9b\r", "\ufffd\ufffd\ufffd[2J\ufffd\ufffd\ufffd"),
        ("", ""),
        ("x" * (MAX_CHARS + 1), "x" * MAX_CHARS),
    ],
)
def test_text_loses_what_a_file_refuses_or_a_terminal_obeys_and_nothing_else(text: str, expected: str) -> None:
    assert cleaned(text) == expected
    assert Skipped(id=text, reason=text) == Skipped(id=expected, reason=expected)


def test_every_reason_that_is_kept_can_be_written() -> None:
    reason = "OSError: \udcff\x1b" + "y" * 100_000
    letter = DeadLetter(item="i", attempts=1, reasons=[reason])
    verdict = Verdict(
        prompt_id="p", a=0, b=1, draw=0, status="error", judge="j", judge_revision="1", latency_s=0.0, error=reason
    )
    for model in (letter, verdict):
        assert len(model.model_dump_json().encode()) < 3 * MAX_CHARS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"p": 1, "p": 0}', "'p' is there twice"),
        (b'[{"a": {"p": 1, "p": 1}}]', "'p' is there twice"),
        (b'{"\\ud800": 1, "\\ud800": 0}', "'\ufffd' is there twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": "\xff"}', "decode"),
        (b"", "Expecting value"),
    ],
    ids=["twice", "twice-below", "twice-unprintable", "deep", "not-utf-8", "empty"],
)
def test_json_that_says_two_things_says_nothing(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        strict_json(body)


def test_json_that_says_one_thing_says_that() -> None:
    assert strict_json(b'{"a": [1, {"b": null}], "c": {"a": "x"}}') == {"a": [1, {"b": None}], "c": {"a": "x"}}
