"""Tokens: what is asked for, and how long an answer is good."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore.oci.timestamps import format_timestamp
from layerstore.registry.errors import BadAnswer
from layerstore.registry.tokens import merged, parse_token, pull_scope, push_scope

NOW, WALL = 5000.0, 1_800_000_000.0


def lasts(fields: dict[str, object]) -> float:
    """Return for how long a token is good."""
    data = json.dumps({"token": "t", **fields}).encode()
    return parse_token(data, "tokens.example", NOW, WALL).until - NOW


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 60),
        ({"expires_in": 300}, 300),
        ({"expires_in": 5}, 60),
        ({"expires_in": -5}, 60),
        ({"expires_in": "300"}, 60),
        ({"expires_in": True}, 60),
        ({"expires_in": 300, "issued_at": format_timestamp(int((WALL - 100) * 1e9))}, 200),
        ({"expires_in": 300, "issued_at": format_timestamp(int((WALL - 9999) * 1e9))}, 300),
        ({"expires_in": 300, "issued_at": format_timestamp(int((WALL + 9999) * 1e9))}, 300),
        ({"expires_in": 300, "issued_at": "yesterday"}, 300),
    ],
)
def test_how_long_a_token_is_good(fields: dict[str, object], seconds: float) -> None:
    assert lasts(fields) == pytest.approx(seconds, abs=1)


def test_token_is_renewed_before_its_end() -> None:
    token = parse_token(b'{"access_token": "x", "refresh_token": "r"}', "h", NOW)
    assert (token.text, token.refresh) == ("x", "r")
    assert token.is_fresh(NOW) and not token.is_fresh(NOW + 55)
    assert "x" not in repr(token).replace("text", "") and "'r'" not in repr(token)


@given(st.binary() | st.text().map(str.encode))
def test_no_answer_makes_a_failure(data: bytes) -> None:
    try:
        token = parse_token(data, "tokens.example", NOW)
    except BadAnswer:
        return
    assert token.text


def test_scopes_of_one_resource_are_put_together() -> None:
    assert merged([push_scope("a"), pull_scope("b"), "repository:a:delete", "bad"]) == (
        "repository:a:delete,pull,push",
        "repository:b:pull",
    )
    assert merged([]) == ()


@given(st.lists(st.sampled_from(["repository:a:pull", "repository:a:push", "registry:c:*", ""])))
def test_merging_is_the_same_in_any_order(scopes: list[str]) -> None:
    assert merged(scopes) == merged(reversed(scopes)) == merged(merged(scopes))
