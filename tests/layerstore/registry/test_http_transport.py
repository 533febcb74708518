"""Connections: their reuse, proxies, and what a socket's failures are told as."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore.registry.certificates import context_for
from layerstore.registry.errors import (
    BadAnswer,
    Cancelled,
    Interrupted,
    NoConnection,
    NotTls,
    RegistryError,
    TooSlow,
    UnsafeRedirect,
)
from layerstore.registry.http_transport import HttpTransport, Peer
from layerstore.registry.proxies import Proxy
from layerstore.registry.reach import Reach
from layerstore.registry.transport import HttpRequest, Stop, read_all
from tests.helpers.hostile_registry import Exchange, HostileRegistry, always
from tests.helpers.mounts import DEADLINE
from tests.helpers.registry_server import RegistryServer
from tests.layerstore.registry.clients import SHORT


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry.running() as running:
        yield running


def tls(host: str) -> ssl.SSLContext:
    return context_for(host, [], insecure=True)


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    with closing(HttpTransport(tls, timeouts=SHORT)) as opened:
        yield opened


def get(
    transport: HttpTransport, url: str, limit: int | None = 1 << 20, method: str = "GET"
) -> tuple[int, bytes]:
    answer = transport.send(HttpRequest(method, url, {}, None, limit))
    with closing(answer):
        data = read_all(answer, 1 << 30)
    assert data is not None
    return answer.status, data


def ports(registry: HostileRegistry) -> list[int]:
    """Make the registry note which connection each request comes by."""
    noted: list[int] = []

    def note(exchange: Exchange) -> bool:
        noted.append(exchange.client_address[1])
        return False

    registry.behaviours.insert(0, note)
    return noted


def test_connection_is_used_again(registry: HostileRegistry, transport: HttpTransport) -> None:
    noted = ports(registry)
    for method in ("GET", "HEAD", "GET"):
        get(transport, f"http://{registry.host}/v2/", method=method)
    assert get(transport, f"http://{registry.host}/none")[0] == 404
    assert len(noted) == 4 and len(set(noted)) == 1


def test_connection_with_an_unread_body_is_not(
    registry: HostileRegistry, transport: HttpTransport
) -> None:
    registry.behave(always(200, "/large", bytes(1 << 20)), always(200, "/small", b"few"))
    noted = ports(registry)
    for path in ("large", "small", "v2/"):
        transport.send(HttpRequest("GET", f"http://{registry.host}/{path}", {})).close()
    assert len(noted) == 3 and noted[0] != noted[1] == noted[2]


def test_connection_that_the_server_closed_is_not(
    registry: HostileRegistry, transport: HttpTransport
) -> None:
    closed = threading.Event()

    def close_after(exchange: Exchange) -> bool:
        exchange.close_connection = True
        done = exchange.reply(200, b"x")
        exchange.wfile.flush()
        exchange.connection.shutdown(socket.SHUT_WR)
        closed.set()
        return done

    registry.behave(close_after)
    for _ in range(3):
        closed.clear()
        assert get(transport, f"http://{registry.host}/") == (200, b"x")
        assert closed.wait(DEADLINE)


def test_threads_have_connections_of_their_own(
    registry: HostileRegistry, transport: HttpTransport
) -> None:
    both = threading.Barrier(2)

    def wait(exchange: Exchange) -> bool:
        both.wait(DEADLINE)
        return False

    registry.behave(wait)
    noted = ports(registry)
    threads = [
        threading.Thread(target=get, args=(transport, f"http://{registry.host}/v2/"))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(noted)) == 2


def test_answer_that_comes_before_the_body_is_taken(
    registry: HostileRegistry, transport: HttpTransport
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    continue

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        answer = transport.send(HttpRequest("PUT", url, {}, [bytes(1 << 20)] * 4))
        assert answer.status == 413
        answer.close()
        transport.close()
        thread.join()


def test_connection_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    slow = pytest.raises(NoConnection, match=r"no connection to r\.example in 5 seconds")
    with closing(HttpTransport(tls, timeouts=SHORT)) as transport, slow:
        get(transport, "https://r.example/")


def test_registry_may_hash_before_it_answers(registry: HostileRegistry) -> None:
    times = replace(SHORT, answer=0.05, stored=10)
    registry.behave(lambda exchange: registry.over.wait(0.3) or exchange.reply(200))
    with closing(HttpTransport(tls, timeouts=times)) as transport:
        url = f"http://{registry.host}/"
        transport.send(HttpRequest("PUT", url, {}, [b"body"])).close()
        with pytest.raises(TooSlow):
            get(transport, url)


def test_failures_of_sockets(registry: HostileRegistry, transport: HttpTransport) -> None:
    with pytest.raises(NoConnection, match="refuses connections"):
        get(transport, "http://127.0.0.1:1/")
    with pytest.raises(NoConnection, match="has no address"):
        get(transport, "http://none.invalid/")
    with pytest.raises(NotTls, match="configure it as insecure"):
        get(transport, f"https://{registry.host}/")
    registry.behave(lambda exchange: exchange.drop())
    with pytest.raises(Interrupted, match="closed the connection in the middle"):
        get(transport, f"http://{registry.host}/")


def test_tls_that_breaks_in_the_middle_is_a_broken_connection(
    registry: HostileRegistry, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.behave(always(200, "", bytes(100_000)))
    answer = transport.send(HttpRequest("GET", f"http://{registry.host}/", {}))

    def fail(*_: object) -> int:
        raise ssl.SSLError(1, "bad record mac")

    with closing(answer):
        answer.readinto(memoryview(bytearray(10)))
        monkeypatch.setattr("http.client.HTTPResponse.readinto", fail)
        with pytest.raises(Interrupted, match="was damaged"):
            answer.readinto(memoryview(bytearray(10)))


def test_tls(tls_registry: RegistryServer, transport: HttpTransport) -> None:
    assert get(transport, f"https://{tls_registry.host}/v2/")[0] == 401


def test_address_is_checked_before_anything_is_sent(registry: HostileRegistry) -> None:
    reach = Reach("registry.example")
    transport = HttpTransport(tls, permitted=reach.permitted)
    with closing(transport), pytest.raises(UnsafeRedirect, match="which is on this machine"):
        get(transport, f"http://{registry.host}/v2/")
    assert registry.requests == []


def test_body_is_bounded_on_the_wire(registry: HostileRegistry, transport: HttpTransport) -> None:
    registry.behave(
        lambda exchange: exchange.raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1;%b\r\nx\r\n" % (b"y" * 1000) * 10_000
        )
    )
    with pytest.raises(BadAnswer, match="longer than it may be"):
        get(transport, f"http://{registry.host}/", limit=100)


def test_stop_ends_everything(registry: HostileRegistry) -> None:
    stop = Stop()
    with closing(HttpTransport(tls, stop=stop)) as transport:
        get(transport, f"http://{registry.host}/v2/")
        stop.set()
        with pytest.raises(Cancelled):
            get(transport, f"http://{registry.host}/v2/")


class TestProxies:
    def proxied(self, host: str, authorization: str = "") -> HttpTransport:
        name, _, port = host.partition(":")
        proxy = Proxy(name, int(port), authorization)
        return HttpTransport(tls, timeouts=SHORT, proxy_of=lambda *_: proxy)

    def test_plain_http_goes_with_its_whole_address(self, registry: HostileRegistry) -> None:
        registry.behave(always(200, "", b"of the proxy"))
        with closing(self.proxied(registry.host, "Basic xyz")) as transport:
            assert get(transport, "http://r.example:5000/v2/?a=b") == (200, b"of the proxy")
        _, path, headers = registry.requests[0]
        assert path == "http://r.example:5000/v2/?a=b"
        assert headers["Host"] == "r.example:5000"
        assert headers["Proxy-Authorization"] == "Basic xyz"

    def test_tls_goes_through_a_tunnel(self, tls_registry: RegistryServer) -> None:
        asked: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=tunnel, args=(server, tls_registry, asked))
            thread.start()
            host = f"127.0.0.1:{server.getsockname()[1]}"
            secret = "Basic " + base64.b64encode(b"ann:x").decode()
            with closing(self.proxied(host, secret)) as transport:
                assert get(transport, f"https://{tls_registry.host}/v2/")[0] == 401
            thread.join()
        head = asked[0].decode()
        assert head.startswith(f"CONNECT {tls_registry.host} HTTP/1.1\r\n")
        assert f"Proxy-Authorization: {secret}\r\n" in head

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_proxy_that_does_not_listen_is_named(self, scheme: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host = f"127.0.0.1:{server.getsockname()[1]}"
        variable = f"{scheme.upper()}_PROXY"
        lost = pytest.raises(NoConnection, match=f"the proxy {host}, which {variable} names: Conn")
        with closing(self.proxied(host)) as transport, lost:
            get(transport, f"{scheme}://r.example/")

    @pytest.mark.parametrize("status", [403, 407, 502])
    def test_proxy_that_refuses(self, registry: HostileRegistry, status: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def refuse() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 %d No\r\n\r\n" % status)

            thread = threading.Thread(target=refuse)
            thread.start()
            host = f"127.0.0.1:{server.getsockname()[1]}"
            refused = pytest.raises(NoConnection, match=f"the proxy {host} refused .*{status}")
            with closing(self.proxied(host)) as transport, refused:
                get(transport, "https://r.example/")
            thread.join()


def tunnel(server: socket.socket, to: RegistryServer, asked: list[bytes]) -> None:
    """Be a proxy for one connection."""
    connection, _ = server.accept()
    with connection, socket.create_connection(("127.0.0.1", to.port)) as there:
        asked.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=forward, args=(there, connection))
        back.start()
        forward(connection, there)
        back.join()


def forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # one side may be gone when the other ends
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("url", "peer", "name"),
    [
        ("https://r.example/x", Peer("https", "r.example", 443), "r.example"),
        ("https://r.example:443/x", Peer("https", "r.example", 443), "r.example"),
        ("http://R.Example:5000/", Peer("http", "r.example", 5000), "r.example:5000"),
        ("http://[::1]:5000/", Peer("http", "::1", 5000), "[::1]:5000"),
    ],
)
def test_peer_of_an_address(url: str, peer: Peer, name: str) -> None:
    assert Peer.of(url) == peer and peer.name == name


@given(st.text() | st.text().map("http://{}".format) | st.text().map("https://h/{}".format))
def test_no_address_makes_a_failure(url: str) -> None:
    def refuse(*_: object) -> Proxy | None:
        raise Interrupted("not now")

    transport = HttpTransport(tls, proxy_of=refuse)
    with pytest.raises(RegistryError):
        transport.send(HttpRequest("GET", url, {}))


@pytest.mark.parametrize("text", ["/a b", "/a\r\nX: y", "/\x7f", "/ä", "/\0"])
def test_address_cannot_add_lines(
    registry: HostileRegistry, transport: HttpTransport, text: str
) -> None:
    with pytest.raises(BadAnswer, match="is not an address of HTTP"):
        get(transport, f"http://{registry.host}/x{text}")
    assert registry.requests == []
