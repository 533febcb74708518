"""Requests to a registry that redirects, refuses, storms and babbles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from layerstore.oci.reference import parse_reference
from layerstore.registry import exchange
from layerstore.registry.client import Client
from layerstore.registry.credentials import Credentials, OneLogin
from layerstore.registry.errors import (
    BadAnswer,
    Denied,
    NoConnection,
    PullLimit,
    RateLimited,
    Refused,
    RegistryError,
    ServerFailed,
    TooLarge,
    TooSlow,
    Unauthorized,
    UnsafeRedirect,
)
from layerstore.registry.host_client import Call, HostClient
from layerstore.registry.reach import Reach
from layerstore.registry.repository import Repository
from layerstore.registry.transport import HttpRequest
from tests.helpers.hostile_registry import (
    Behaviour,
    Exchange,
    HostileRegistry,
    always,
    answered,
    dropped,
    endless,
    redirected,
    silent,
)
from tests.layerstore.registry.clients import AT_ONCE, SHORT, described, opened
from tests.layerstore.registry.fakes import FakeAnswer, FakeTransport

ANN = Credentials("ann", "a secret")
LIST = "/tags/list"


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry.running() as running:
        running.add_manifest("v1", b"{}")
        yield running


@pytest.fixture
def said() -> list[str]:
    """What the client warns of."""
    return []


@pytest.fixture
def client(tmp_path: Path, registry: HostileRegistry, said: list[str]) -> Iterator[Client]:
    with opened(tmp_path, ANN, timeouts=SHORT, warnings=said) as client:
        yield client


@pytest.fixture
def repository(client: Client, registry: HostileRegistry) -> Repository:
    return client.repository(parse_reference(f"{registry.host}/x"))


class TestStorms:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (401, Unauthorized),
            (403, Denied),
            (400, Refused),
            (429, RateLimited),
            (500, ServerFailed),
            (503, ServerFailed),
        ],
    )
    def test_error_that_lasts_is_told_after_a_few_tries(
        self,
        registry: HostileRegistry,
        repository: Repository,
        status: int,
        kind: type[RegistryError],
    ) -> None:
        registry.behave(always(status, LIST))
        with pytest.raises(kind, match=registry.host):
            repository.tags()
        assert registry.count("GET", LIST) <= 4

    @pytest.mark.parametrize("challenge", ["Basic realm=x", 'Bearer realm="REALM",service=s'])
    def test_401_for_ever(
        self, registry: HostileRegistry, repository: Repository, challenge: str
    ) -> None:
        header = challenge.replace("REALM", f"http://{registry.host}/token")
        registry.behave(
            always(401, LIST, headers={"WWW-Authenticate": header}),
            always(200, "/token", b'{"token": "t"}'),
        )
        with pytest.raises(Unauthorized, match="refused the credentials") as caught:
            repository.tags()
        assert ANN.password not in str(caught.value)
        assert registry.count("GET", LIST) <= 3

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_error_that_passes(
        self, registry: HostileRegistry, repository: Repository, status: int
    ) -> None:
        registry.behave(always(status, LIST, times=3))
        assert repository.tags() == ["v1"]

    def test_retry_after_is_kept_to(
        self, registry: HostileRegistry, repository: Repository
    ) -> None:
        soon = {"Retry-After": "0"}
        registry.behave(always(429, LIST, headers=soon, times=2))
        assert repository.tags() == ["v1"]

    @pytest.mark.parametrize("as_date", [False, True])
    def test_long_wait_is_left_to_the_user(
        self, registry: HostileRegistry, repository: Repository, as_date: bool
    ) -> None:
        after = formatdate(time.time() + 7200, usegmt=True) if as_date else "7200"
        registry.behave(always(429, LIST, headers={"Retry-After": after}))
        with pytest.raises(RateLimited, match=r"try .* in 7[12][0-9]{2} seconds") as caught:
            repository.tags()
        assert caught.value.retry_after is not None and 7100 < caught.value.retry_after <= 7200
        assert registry.count("GET", LIST) == 1

    @pytest.mark.parametrize(
        "behaviour",
        [
            always(
                429, LIST, b'{"message": "toomanyrequests: You have reached your pull rate limit."}'
            ),
            always(429, LIST, headers={"Docker-RateLimit-Source": "198.51.100.1"}),
        ],
    )
    def test_pull_limit_is_told_from_a_storm(
        self, registry: HostileRegistry, repository: Repository, behaviour: Behaviour
    ) -> None:
        registry.behave(behaviour)
        with pytest.raises(PullLimit, match=r"pull limit .* is reached"):
            repository.tags()
        assert registry.count("GET", LIST) == 1

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_dropped_connections(
        self, registry: HostileRegistry, repository: Repository, times: int
    ) -> None:
        registry.behave(dropped("GET", LIST, times))
        assert repository.tags() == ["v1"]

    def test_registry_that_is_away_for_a_while(self, tmp_path: Path) -> None:
        refused = [0]

        def answer(request: HttpRequest) -> FakeAnswer:
            if refused[0] > 0:
                refused[0] -= 1
                raise NoConnection("not now", "r.example")
            return FakeAnswer(200, b"{}")

        host = "r.example"
        client = HostClient(
            exchange.Exchange(host, FakeTransport(answer), Reach(host), lambda _: False),
            OneLogin(),
            retries=AT_ONCE,
        )
        call = Call("GET", "/v2/", "the protocol")
        refused[0] = 1
        with pytest.raises(NoConnection):
            client.read(call)
        client.read(call)
        refused[0] = 3
        client.read(call)
        refused[0] = 4
        with pytest.raises(NoConnection):
            client.read(call)

    def test_registry_that_never_answers(self, tmp_path: Path, registry: HostileRegistry) -> None:
        registry.behave(silent(LIST))
        with opened(tmp_path, timeouts=replace(SHORT, answer=0.1)) as client:
            repository = client.repository(parse_reference(f"{registry.host}/x"))
            with pytest.raises(TooSlow, match="is too slow"):
                repository.tags()


def test_nothing_is_asked_for_in_another_encoding(
    registry: HostileRegistry, repository: Repository
) -> None:
    repository.tags()
    assert registry.requests[-1][2]["Accept-Encoding"] == "identity"


class TestRedirects:
    def test_circle(self, registry: HostileRegistry, repository: Repository) -> None:
        registry.behave(redirected(LIST, f"/v2/x{LIST}"))
        with pytest.raises(BadAnswer, match="redirects in circles"):
            repository.tags()

    def test_chain_without_end(self, registry: HostileRegistry, repository: Repository) -> None:
        registry.behave(
            lambda e: LIST in e.path and e.reply(307, b"", {"Location": f"{e.path}?{len(e.path)}"})
        )
        with pytest.raises(BadAnswer, match="in circles, or too often"):
            repository.tags()
        assert registry.count("GET", LIST) <= 12

    @pytest.mark.parametrize(
        "location",
        [
            "file:///etc/shadow",
            "ftp://x.example/y",
            "gopher://x",
            "javascript:alert(1)",
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/x",
            "http://[::ffff:169.254.169.254]/",
        ],
    )
    def test_where_none_may_lead(
        self, registry: HostileRegistry, repository: Repository, location: str
    ) -> None:
        registry.behave(redirected(LIST, location))
        with pytest.raises(UnsafeRedirect, match=registry.host):
            repository.tags()

    @pytest.mark.parametrize(
        "location", ["http://[", "http://x:port/", "http:///x", "http://h/a b\0"]
    )
    def test_address_that_is_none(
        self, registry: HostileRegistry, repository: Repository, location: str
    ) -> None:
        registry.behave(redirected(LIST, location.replace("\0", "\x7f")))
        with pytest.raises(RegistryError):
            repository.tags()

    def test_credentials_stay_at_home(
        self, registry: HostileRegistry, repository: Repository
    ) -> None:
        data = b"a blob at another host"
        with HostileRegistry.running() as other:
            digest = other.add_blob(data)

            def lead_away(exchange: Exchange) -> bool:
                if exchange.headers.get("Authorization") is None:
                    return exchange.reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
                there = {"Location": f"http://{other.host}/v2/x/blobs/{digest}"}
                return exchange.reply(307, b"", there)

            registry.behave(lead_away)
            assert repository.read_blob(described(data)) == data
            assert [headers.get("Authorization") for _, _, headers in other.requests] == [None]

    def test_refusal_of_another_host_is_not_answered(
        self, registry: HostileRegistry, repository: Repository
    ) -> None:
        with HostileRegistry.running() as other:
            other.behave(always(401, "", headers={"WWW-Authenticate": "Basic realm=x"}))
            registry.behave(redirected(LIST, f"http://{other.host}/"))
            with pytest.raises(RegistryError):
                repository.tags()
            assert all("Authorization" not in headers for _, _, headers in other.requests)


class TestTokenServers:
    def challenge(self, registry: HostileRegistry, realm: str) -> Behaviour:
        header = {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'}

        def behave(exchange: Exchange) -> bool:
            sent = exchange.headers.get("Authorization", "")
            return (
                LIST in exchange.path and sent != "Bearer good" and exchange.reply(401, b"", header)
            )

        return behave

    @pytest.mark.parametrize(
        "realm", ["file:///etc/passwd", "http://169.254.169.254/t", "x:", "http://["]
    )
    def test_realm_that_leads_astray(
        self, registry: HostileRegistry, repository: Repository, realm: str
    ) -> None:
        registry.behave(self.challenge(registry, realm))
        with pytest.raises(RegistryError) as caught:
            repository.tags()
        assert ANN.password not in str(caught.value)

    def test_secret_is_not_sent_in_the_clear(
        self, registry: HostileRegistry, repository: Repository
    ) -> None:
        registry.behave(self.challenge(registry, "http://tokens.example/t"))
        with pytest.raises(UnsafeRedirect, match=r"from TLS to plain HTTP at tokens\.example"):
            repository.tags()

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"{}",
            b"[]",
            b"not json",
            b'{"token": 5}',
            b'{"token": ""}',
            b'{"token": "two\\nlines"}',
            b'{"token": "x", "expires_in": ' + b"[" * 100_000,
        ],
    )
    def test_answer_without_a_token(
        self, registry: HostileRegistry, repository: Repository, answer: bytes
    ) -> None:
        registry.behave(
            self.challenge(registry, f"http://{registry.host}/token"),
            always(200, "/token", answer),
        )
        with pytest.raises(BadAnswer, match=f"the token server {registry.host}"):
            repository.tags()

    def test_answer_without_end(self, registry: HostileRegistry, repository: Repository) -> None:
        registry.behave(
            self.challenge(registry, f"http://{registry.host}/token"), endless("/token")
        )
        with pytest.raises(BadAnswer, match="answers with more than a token"):
            repository.tags()

    def test_server_that_fails_for_a_while(
        self, registry: HostileRegistry, repository: Repository
    ) -> None:
        registry.behave(
            self.challenge(registry, f"http://{registry.host}/token"),
            always(503, "/token", times=2),
            always(200, "/token", b'{"access_token": "good"}'),
        )
        assert repository.tags() == ["v1"]

    def test_insufficient_scope_is_asked_for(
        self, registry: HostileRegistry, repository: Repository
    ) -> None:
        realm = f"http://{registry.host}/token"
        scope = "repository:x:delete,pull repository:y:pull"

        def behave(exchange: Exchange) -> bool:
            if "/token" in exchange.path:
                wide = any("delete" in text for text in exchange.query.get("scope", []))
                return exchange.reply(200, b'{"token": "%s"}' % (b"good" if wide else b"small"))
            if LIST not in exchange.path or exchange.headers.get("Authorization") == "Bearer good":
                return False
            known = "Authorization" in exchange.headers
            error = f',error="insufficient_scope",scope="{scope}"' if known else ""
            return exchange.reply(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}"{error}'})

        registry.behave(behave)
        assert repository.tags() == ["v1"]
        query = next(path for _, path, _ in reversed(registry.requests) if "/token" in path)
        assert "scope=repository:x:delete,pull&scope=repository:y:pull" in query

    def test_scheme_that_is_not_known(
        self, registry: HostileRegistry, repository: Repository
    ) -> None:
        registry.behave(always(401, LIST, headers={"WWW-Authenticate": "Negotiate"}))
        with pytest.raises(Unauthorized, match="is not supported: negotiate"):
            repository.tags()


class TestBabble:
    @pytest.mark.parametrize(
        "data",
        [
            b"\0\1\2\3\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 1000 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 100_000,
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            b"HTTP/1.1 103 Early\r\n\r\n",
        ],
    )
    def test_what_is_no_http(
        self, registry: HostileRegistry, repository: Repository, data: bytes
    ) -> None:
        registry.behave(answered(LIST, data))
        with pytest.raises(RegistryError, match=registry.host):
            repository.tags()

    def test_trailer_without_end(self, registry: HostileRegistry, repository: Repository) -> None:
        def trail(exchange: Exchange) -> bool:
            if LIST not in exchange.path:
                return False
            exchange.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
            while not registry.over.is_set():
                exchange.wfile.write(b"X-Trailer: y\r\n" * 4000)
            return True

        registry.behave(trail)
        with pytest.raises(BadAnswer, match="does not answer in HTTP"):
            repository.tags()

    def test_document_without_end(self, registry: HostileRegistry, repository: Repository) -> None:
        registry.behave(endless(LIST))
        with pytest.raises(TooLarge, match="sent more than 8192 KiB for the tags"):
            repository.tags()

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{", b'{"errors": 5}', b'{"errors": [5]}'])
    def test_error_that_is_not_written_as_the_spec_says(
        self, registry: HostileRegistry, repository: Repository, body: bytes
    ) -> None:
        registry.behave(always(418, LIST, body))
        with pytest.raises(Refused, match=r"refused the tags of .* with 418$"):
            repository.tags()

    def test_text_of_a_registry_cannot_write_to_the_terminal(
        self, registry: HostileRegistry, repository: Repository
    ) -> None:
        body = b'{"errors": [{"code": "X", "message": "\\u001b[2J\\nhello"}]}'
        registry.behave(always(400, LIST, body))
        with pytest.raises(Refused) as caught:
            repository.tags()
        assert str(caught.value).isprintable() and "hello" in str(caught.value)


class TestWarnings:
    def test_few_pulls_are_left(
        self, registry: HostileRegistry, repository: Repository, said: list[str]
    ) -> None:
        body = b'{"tags": []}'
        registry.behave(always(200, LIST, body, {"RateLimit-Remaining": "11;w=21600"}, times=1))
        repository.tags()
        assert said == []
        registry.behave(always(200, LIST, body, {"RateLimit-Remaining": "10;w=21600"}))
        repository.tags()
        repository.tags()
        assert said == [f"{registry.host}: 10 pulls are left before its limit is reached"]

    def test_warning_of_a_registry_is_passed_on_once(
        self, registry: HostileRegistry, repository: Repository, said: list[str]
    ) -> None:
        header = {"Warning": '299 - "this is \\"old\\""'}
        registry.behave(always(200, LIST, b'{"tags": []}', header))
        repository.tags()
        repository.tags()
        assert said == [f'{registry.host}: this is "old"']
