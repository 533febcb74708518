"""Challenges in all the forms in which registries write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerstore.registry.challenge import Challenge, choose, parse_challenges
from tests.helpers.effort import examples

BEARER = Challenge(
    "bearer",
    {
        "realm": "https://auth.docker.io/token",
        "service": "registry.docker.io",
        "scope": "repository:library/x:pull,push",
    },
)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (
            [
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:library/x:pull,push"'
            ],
            [BEARER],
        ),
        (
            [
                'bEARER  Realm = "https://auth.docker.io/token" , SERVICE=registry.docker.io,'
                '\tscope="repository:library/x:pull,push",'
            ],
            [BEARER],
        ),
        (["Basic"], [Challenge("basic")]),
        (['Basic realm="a, b \\"c\\" \\\\"'], [Challenge("basic", {"realm": 'a, b "c" \\'})]),
        (
            ['Negotiate, Basic realm="x"'],
            [Challenge("negotiate"), Challenge("basic", {"realm": "x"})],
        ),
        (
            ["Negotiate YII=, Basic realm=x", "Bearer realm=y"],
            [
                Challenge("negotiate"),
                Challenge("basic", {"realm": "x"}),
                Challenge("bearer", {"realm": "y"}),
            ],
        ),
        (
            ['Digest realm="d", nonce="n", qop="auth,auth-int", Basic realm="b"'],
            [
                Challenge("digest", {"realm": "d", "nonce": "n", "qop": "auth,auth-int"}),
                Challenge("basic", {"realm": "b"}),
            ],
        ),
        (['Bearer realm="a",realm="b"'], [Challenge("bearer", {"realm": "a"})]),
        (['=x, "stray", Basic realm=b'], [Challenge("basic", {"realm": "b"})]),
        (["Bearer realm="], [Challenge("bearer")]),
        (["Bearer realm=, a=b"], [Challenge("bearer", {"a": "b"})]),
        ([], []),
        ([""], []),
        ([" , ,"], []),
    ],
)
def test_challenges(headers: list[str], found: list[Challenge]) -> None:
    assert parse_challenges(headers) == found


def test_first_one_that_can_be_answered_is_chosen() -> None:
    basic, bearer = Challenge("basic"), Challenge("bearer", {"realm": "r"})
    assert choose([Challenge("negotiate"), bearer, basic]) is bearer
    assert choose([Challenge("bearer"), basic]) is basic
    assert choose([Challenge("negotiate"), Challenge("bearer")]) is None


TOKENS = st.text(alphabet="abcXYZ019.-_", min_size=1)


@settings(max_examples=examples(50))
@given(
    st.lists(
        st.tuples(
            TOKENS,
            st.dictionaries(
                TOKENS.map(str.lower), st.text(st.characters(max_codepoint=126)), min_size=1
            ),
        )
    ),
    st.booleans(),
)
def test_what_is_written_is_read(wanted: list[tuple[str, dict[str, str]]], together: bool) -> None:
    texts = [
        scheme + " " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in wanted
    ]
    found = parse_challenges([", ".join(texts)] if together else texts)
    assert found == [Challenge(scheme.lower(), parameters) for scheme, parameters in wanted]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.lists(st.text() | st.text(alphabet='Bearer realm="x",\\=; \t')))
def test_no_text_makes_a_failure(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


@given(st.text(alphabet='abc=",\\ '))
def test_what_is_not_understood_does_not_hide_the_next_header(text: str) -> None:
    assert parse_challenges([text, "Basic realm=x"])[-1] == Challenge("basic", {"realm": "x"})


def test_long_header_takes_no_long_time() -> None:
    for text in ('"' * 50_000, "a=" * 30_000, "a " * 30_000, 'a="' + "\\" * 60_000, "," * 60_000):
        parse_challenges([text])
