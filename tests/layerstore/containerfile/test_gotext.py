"""Text as Go writes it; the expected values were printed by docker 20.10."""

from __future__ import annotations

import pytest

from layerstore.containerfile.gotext import duration, quote, quote_list, quote_rune
from layerstore.oci.durations import MILLISECOND, SECOND, parse_duration


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ('b"c é', '"b\\"c é"'),
        ("a\nb\t\\", '"a\\nb\\t\\\\"'),
        ("\x00\x7f\x1b", '"\\x00\\x7f\\x1b"'),
        ("\u200b\ufffd", '"\\u200b�"'),
        ("\U000e0001", '"\\U000e0001"'),
        ("", '""'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_quote_list() -> None:
    assert quote_list(["a", "b c"]) == '["a" "b c"]'
    assert quote_list([]) == "[]"


@pytest.mark.parametrize(
    ("number", "quoted"),
    [(0, "'\\x00'"), (3, "'\\x03'"), (10, "'\\n'"), (39, "'\\''"), (65, "'A'"), (1 << 30, "'�'")],
)
def test_quote_rune(number: int, quoted: str) -> None:
    assert quote_rune(number) == quoted


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (MILLISECOND, "1ms"),
        (1_500 * MILLISECOND, "1.5s"),
        (90 * SECOND, "1m30s"),
        (3600 * SECOND, "1h0m0s"),
        (3661 * SECOND + 5 * MILLISECOND, "1h1m1.005s"),
    ],
)
def test_duration(ns: int, text: str) -> None:
    assert duration(ns) == text
    assert parse_duration(text) == ns
