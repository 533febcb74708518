"""Answers to challenges, without a network."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from layerstore.registry.auth import Authenticator
from layerstore.registry.credentials import Credentials, OneLogin
from layerstore.registry.errors import BadAnswer, Unauthorized
from layerstore.registry.transport import Answer, HttpRequest
from tests.layerstore.registry.fakes import FakeAnswer, FakeTransport

ANN = Credentials("ann", "secret")
SCOPES = ("repository:x:pull",)
BEARER = 'Bearer realm="https://tokens.example/t?a=b",service="the service"'


class Fixture:
    """An authenticator whose token server is `transport`."""

    def __init__(self, credentials: Credentials | None = ANN, status: int = 200) -> None:
        self.count = 0
        self.status = status
        self.transport = FakeTransport(self._answer)
        self.auth = Authenticator(
            "r.example", OneLogin(credentials), self.transport.send, lambda _, text, __: text
        )

    def _answer(self, request: HttpRequest) -> FakeAnswer:
        self.count += 1
        return FakeAnswer(self.status, json.dumps({"token": f"token{self.count}"}).encode())

    def answer(self, *headers: str, used: str | None = None) -> str:
        refusal: Answer = FakeAnswer(401, headers=[("WWW-Authenticate", text) for text in headers])
        return self.auth.answer(refusal, SCOPES, "x", used)[0]

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.transport.requests[-1].url).query)


def test_nothing_is_sent_before_it_is_asked_for() -> None:
    assert Fixture().auth.header(SCOPES, "x") is None


def test_basic() -> None:
    fixture = Fixture()
    assert fixture.answer("Basic realm=x") == ANN.basic
    assert fixture.auth.header(SCOPES, "x") == ANN.basic
    with pytest.raises(Unauthorized, match=r"refused the credentials for r\.example/x"):
        fixture.answer("Basic realm=x", used=ANN.basic)


def test_basic_without_credentials() -> None:
    with pytest.raises(Unauthorized, match=r"does not exist: `pyunion login r\.example` first"):
        Fixture(None).answer("Basic")


def test_token_is_asked_for_with_everything() -> None:
    fixture = Fixture()
    assert fixture.answer(BEARER) == "Bearer token1"
    request = fixture.transport.requests[0]
    assert request.url.startswith("https://tokens.example/t?a=b&service=the%20service&")
    assert fixture.query()["scope"] == ["repository:x:pull"]
    assert fixture.query()["account"] == ["ann"]
    assert request.headers["Authorization"] == ANN.basic
    assert fixture.auth.header(SCOPES, "x") == "Bearer token1"
    assert fixture.count == 1


def test_anonymous_token() -> None:
    fixture = Fixture(None)
    assert fixture.answer(BEARER) == "Bearer token1"
    assert "Authorization" not in fixture.transport.requests[0].headers
    assert "account" not in fixture.query()


def test_scope_of_the_challenge_is_added() -> None:
    fixture = Fixture()
    fixture.answer(BEARER + ',scope="repository:x:push repository:y:pull"')
    assert fixture.query()["scope"] == ["repository:x:pull,push", "repository:y:pull"]


def test_scope_that_a_registry_wanted_is_asked_for_the_next_time() -> None:
    fixture = Fixture()
    header = fixture.answer(BEARER + ',scope="repository:x:pull repository:y:pull"')
    assert fixture.auth.header(SCOPES, "x") == header
    assert fixture.count == 1
    scopes = ("repository:z:push,pull", "repository:a:pull")
    one = fixture.auth.header(scopes, "z")
    assert fixture.auth.header(tuple(reversed(scopes)), "z") == one and fixture.count == 2


def test_token_that_is_refused_is_replaced() -> None:
    fixture = Fixture()
    first = fixture.answer(BEARER)
    assert fixture.answer(BEARER, used=first) == "Bearer token2"
    assert fixture.answer(BEARER, used=first) == "Bearer token2"  # another thread had it renewed


def test_first_challenge_that_works_is_taken() -> None:
    assert Fixture().answer("Negotiate", "Basic realm=x", BEARER) == ANN.basic
    assert Fixture().answer(BEARER, "Basic realm=x") == "Bearer token1"


@pytest.mark.parametrize("status", [400, 401, 403])
def test_token_server_that_refuses(status: int) -> None:
    with pytest.raises(Unauthorized, match=r"tokens\.example refused the credentials") as caught:
        Fixture(status=status).answer(BEARER)
    assert ANN.password not in str(caught.value)
    with pytest.raises(Unauthorized, match="needs a login"):
        Fixture(None, status).answer(BEARER)


def test_token_server_that_answers_otherwise() -> None:
    with pytest.raises(BadAnswer, match=r"tokens\.example of r\.example answered 404"):
        Fixture(status=404).answer(BEARER)


@pytest.mark.parametrize("refusal", [401, 404, 405])
def test_identity_token_by_post_and_by_get(refusal: int) -> None:
    token = Credentials("ann", identity_token="the token")
    fixture = Fixture(token)
    assert fixture.answer(BEARER) == "Bearer token1"
    request = fixture.transport.requests[0]
    assert request.method == "POST" and request.body is not None
    form = parse_qs(b"".join(request.body).decode())
    assert form["grant_type"] == ["refresh_token"] and form["refresh_token"] == ["the token"]
    assert form["scope"] == ["repository:x:pull"] and "the token" not in request.url

    without = Fixture(token)

    def send(request: HttpRequest) -> Answer:
        return FakeAnswer(refusal) if request.method == "POST" else without.transport.send(request)

    without.auth = Authenticator("r.example", OneLogin(token), send, lambda _, text, __: text)
    assert without.answer(BEARER) == "Bearer token1"
    assert without.transport.requests[0].headers["Authorization"] == (
        Credentials("ann", "the token").basic
    )


def test_realm_with_a_query_and_without_a_service() -> None:
    fixture = Fixture(None)
    fixture.auth.answer(
        FakeAnswer(401, headers=[("WWW-Authenticate", "Bearer realm=https://t.example/x")]),
        (),
        "",
        None,
    )
    assert fixture.transport.requests[0].url == "https://t.example/x"
