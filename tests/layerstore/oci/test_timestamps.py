"""Points in time: read in all forms, written in one."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore.errors import InvalidImage, StoreError
from layerstore.oci.timestamps import format_timestamp, parse_timestamp, parse_until

HOUR = 3600 * 10**9


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2024-05-06T07:08:09.5Z", 1714979289_500000000),
        ("2024-05-06T09:08:09+02:00", 1714979289_000000000),
        ("2024-05-06T02:08:09-05:00", 1714979289_000000000),
        ("2024-05-06 07:08:09Z", 1714979289_000000000),
        ("2024-02-29", 1709164800_000000000),
        ("0001-01-01T00:00:00Z", 0),
        ("0000-00-00T00:00:00Z", 0),
        ("1970-01-01T00:30:00+01:00", 0),
        ("2016-12-31T23:59:60Z", 1483228800_000000000),
        ("2024-05-06T07:08:09.123456789123Z", 1714979289_123456789),
        ("2262-04-11T23:47:16.854775807Z", (1 << 63) - 1),
        ("9999-12-31T23:59:59Z", (1 << 63) - 1),
    ],
)
def test_forms_that_are_read(text: str, ns: int) -> None:
    assert parse_timestamp(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2024-13-01T00:00:00Z",
        "2024-05-06T25:00:00Z",
        "2026-02-31T00:00:00Z",
        "2025-02-29",
        "2026-00-01",
        "2026-04-31T10:00:00Z",
        "2026-01-01T00:00:61Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "٢٠٢٦-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidImage):
        parse_timestamp(text)


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_what_is_written_is_read_back(ns: int) -> None:
    text = format_timestamp(ns)
    assert parse_timestamp(text) == ns
    assert datetime.datetime.fromisoformat(text[:19] + "+00:00").timestamp() == ns // 10**9


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("24h", -24 * HOUR),
        ("1h30m", -HOUR * 3 // 2),
        ("1.5h", -HOUR * 3 // 2),
        ("300ms", -300_000_000),
    ],
)
def test_until_may_say_how_long_ago(text: str, ns: int) -> None:
    now = 1714979289 * 10**9
    assert parse_until(text, now) == now + ns


def test_until_may_be_a_point_in_time() -> None:
    assert parse_until("1714979289", 0) == 1714979289 * 10**9
    assert parse_until("1714979289.25", 0) == 1714979289_250000000
    assert parse_until("2024-05-06", 0) == 1714953600 * 10**9
    with pytest.raises(StoreError, match="neither a time"):
        parse_until("soon", 0)
    for text in ("٣h", "٣", "1h٣m"):
        with pytest.raises(StoreError, match="neither a time"):
            parse_until(text, 0)
