"""Durations are read as Go reads them."""

from __future__ import annotations

import pytest

from layerstore.oci.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1ns", 1),
        ("1.5us", 1500),
        ("2µs", 2000),
        ("2\u03bcs", 2000),
        ("300ms", 300_000_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("0.1s", 100_000_000),  # exact, where a float is not
        ("1.000000001s", 1_000_000_001),
        ("0s", 0),
    ],
)
def test_what_is_read(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    "text", ["", "1", "s", ".s", "1d", "-1s", "1s ", "1 s", "1h-3m", "٣s", "1e3s", "9999999999h"]
)
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None
