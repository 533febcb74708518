"""The headers of registries: what they mean, and that nothing in them makes a failure."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore.registry.headers import (
    ContentRange,
    Headers,
    content_range,
    length,
    media_type,
    next_page,
    pulls_left,
    retry_after,
    uploaded,
    warnings,
)

ANY = st.text() | st.text(alphabet=' <>;,="\\:/-0123456789bytesrelnextBYTES*')


def test_headers_in_any_case_and_order() -> None:
    headers = Headers([("Link", "a"), ("X", "1"), ("LINK", "b")])
    assert headers.all("link") == ["a", "b"]
    assert headers.get("x") == "1" and headers.get("y") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes 0-9/10", ContentRange(0, 9, 10)),
        (" bytes 5-5/* ", ContentRange(5, 5, None)),
        ("bytes 0-10/10", None),
        ("bytes 9-0/10", None),
        ("bytes */10", None),
        ("0-9/10", None),
        ("bytes 0-9", None),
        ("bytes 00000000000000000000-9/10", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range(text: str | None, found: ContentRange | None) -> None:
    assert content_range(text) == found


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.integers(1, 1 << 50))
def test_content_range_comes_back(first: int, more: int, rest: int) -> None:
    last, total = first + more, first + more + rest
    assert content_range(f"bytes {first}-{last}/{total}") == (first, last, total)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0-0", 0),
        ("0-1", 2),
        ("0-1048575", 1 << 20),
        ("bytes=0-9", 10),
        ("1-9", None),
        ("0-", None),
        ("0--1", None),
        (None, None),
    ],
)
def test_bytes_of_an_upload(text: str | None, count: int | None) -> None:
    assert uploaded(text) == count


def test_retry_after_as_seconds_and_as_a_date() -> None:
    now = 1_800_000_000.0
    assert retry_after("120", now) == 120
    assert retry_after(formatdate(now + 90, usegmt=True), now) == 90
    assert retry_after(formatdate(now - 90, usegmt=True), now) is None
    for text in (None, "", "-5", "soon", "1.5", "Wed, 99 Foo 2030", "1" * 30):
        assert retry_after(text, now) is None


@pytest.mark.parametrize(
    ("links", "found"),
    [
        (['</v2/x/tags/list?last=b&n=2>; rel="next"'], "/v2/x/tags/list?last=b&n=2"),
        (["<a>; rel=next"], "a"),
        (["<a>;rel=NEXT;title=x"], "a"),
        (['<a>; rel="prev", <b>; rel="next"'], "b"),
        (["<a>; rel=prev", "<b>; rel=next"], "b"),
        (['<a,b;c>; title="x, y"; rel="first next"'], "a,b;c"),
        (["<a>; rel=nextish"], None),
        (["<>; rel=next"], None),
        (["a; rel=next"], None),
        (['<a>; title="; rel=next"'], None),
        ([], None),
    ],
)
def test_next_page(links: list[str], found: str | None) -> None:
    assert next_page(links) == found


def test_types_and_limits() -> None:
    assert media_type("Application/JSON; charset=utf-8") == "application/json"
    assert media_type(None) == ""
    assert pulls_left("76;w=21600") == 76 and pulls_left("0") == 0
    assert pulls_left("many") is None and pulls_left(None) is None
    assert length(" 42 ") == 42
    for text in (None, "", "-1", "+1", "4_2", "٤", "1" * 30):
        assert length(text) is None


def test_warnings_are_those_for_users() -> None:
    assert warnings(['299 - "a \\"b\\"", 299 x "c"', '199 - "no"', "299 -"]) == ['a "b"', "c"]


@given(ANY)
def test_no_text_makes_a_failure(text: str) -> None:
    found = content_range(text)
    assert found is None or 0 <= found.first <= found.last
    for count in (uploaded(text), length(text), pulls_left(text)):
        assert count is None or count >= 0
    seconds = retry_after(text)
    assert seconds is None or seconds >= 0
    assert next_page([text]) is None or "<" in text
    assert media_type(text) == media_type(text).strip()
    warnings([text])
