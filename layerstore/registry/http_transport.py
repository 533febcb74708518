"""HTTP/1.1: connections, their reuse, TLS and proxies.

A connection carries one exchange at a time and is kept for the next one.  The modules
above decide redirects, credentials and retries; this one sends nothing twice.

The standard library reads the answers.  For the body of a blob under TLS it takes half of
the CPU time of httpx2, it is imported in a sixth of the time, and it allows a check of
the speed of a host at each read.
"""

from __future__ import annotations

import http.client
import io
import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from layerstore.errors import shown
from layerstore.registry.errors import (
    BadAnswer,
    CertificateRefused,
    Interrupted,
    NoConnection,
    NotTls,
    TlsFailed,
    TooSlow,
)
from layerstore.registry.headers import Headers
from layerstore.registry.proxies import Proxy, proxy_for
from layerstore.registry.transport import Answer, HttpRequest, Stop, Timeouts
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 64 << 10
_KEPT = 30.0  # seconds that an idle connection is kept
_DRAINED = 64 << 10  # bytes of an unread body that are read to keep the connection
_FRAMES = 8  # bytes on the wire for one byte of a body in chunks, at most
_HEADERS = 1 << 20  # bytes of all headers; the library limits their lines and number

_LONGEST_TUNNEL = 64 << 10  # bytes of a proxy's answer before TLS begins

_PORTS = {"http": 80, "https": 443}


class Peer(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Peer:
        """Return the peer of an http or https address; raises BadAnswer."""
        try:
            parts = urlsplit(url)
            if parts.scheme in _PORTS and parts.hostname:
                return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])
        except ValueError:
            pass
        raise BadAnswer(f"{shown(url)} is not an address of HTTP")

    @property
    def name(self) -> str:
        """The host for messages and headers, with its port if that is not the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class HttpTransport:
    """The connections of one client.

    `tls_for` returns the context that checks a host's certificate.  `permitted` is called
    with the name and the address of a host before anything is sent to it, and raises if
    the client must not connect to it.
    """

    def __init__(
        self,
        tls_for: Callable[[str], ssl.SSLContext],
        *,
        stop: Stop | None = None,
        timeouts: Timeouts | None = None,
        proxy_of: Callable[[str, str, int], Proxy | None] = proxy_for,
        permitted: Callable[[str, str], None] | None = None,
    ) -> None:
        self._tls_for = tls_for
        self._stop = stop or Stop()
        self._timeouts = timeouts or Timeouts()
        self._proxy_of = proxy_of
        self._permitted = permitted
        self._idle: dict[Peer, list[_Connection]] = {}
        self._lock = threading.Lock()

    def send(self, request: HttpRequest) -> Answer:
        """Return the answer to `request`; see Transport."""
        peer = Peer.of(request.url)
        with _explained(peer, self._stop):
            proxy = self._proxy_of(*peer)
            connection = self._kept(peer) or self._connect(peer, proxy)
            try:
                head = _head(request, peer, proxy if peer.scheme == "http" else None)
                response = connection.exchange(head, request)
            except BaseException:
                connection.close()
                raise
        return _HttpAnswer(response, request, connection, self._keep, self._stop)

    def close(self) -> None:
        """Close the connections that are idle."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _kept(self, peer: Peer) -> _Connection | None:
        with self._lock:
            idle = self._idle.get(peer, [])
            while idle:
                connection = idle.pop()
                if connection.is_usable():
                    return connection
                connection.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        connection.kept_since = time.monotonic()
        with self._lock:
            self._idle.setdefault(connection.peer, []).append(connection)

    def _connect(self, peer: Peer, proxy: Proxy | None) -> _Connection:
        there = (proxy.host, proxy.port) if proxy else (peer.host, peer.port)
        self._stop.check()
        try:
            sock = socket.create_connection(there, self._timeouts.connect)
        except OSError as error:
            if proxy is not None:
                raise NoConnection(
                    f"{peer.name} cannot be reached by the proxy {proxy.host}:{proxy.port}, which "
                    f"{peer.scheme.upper()}_PROXY names: {error.strerror or error}",
                    peer.name,
                ) from None
            if not isinstance(error, TimeoutError):
                raise
            raise NoConnection(
                f"no connection to {peer.name} in {self._timeouts.connect:g} seconds", peer.name
            ) from None
        try:
            if proxy is None and self._permitted is not None:
                self._permitted(peer.name, sock.getpeername()[0])
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._stop.watch(sock)
            if peer.scheme == "https":
                if proxy is not None:
                    self._tunnel(sock, peer, proxy)
                sock = self._tls_for(peer.name).wrap_socket(sock, server_hostname=peer.host)
                self._stop.watch(sock)
            return _Connection(sock, peer, self._timeouts, self._stop)
        except BaseException:
            sock.close()
            raise

    def _tunnel(self, sock: socket.socket, peer: Peer, proxy: Proxy) -> None:
        """Ask the proxy at `sock` for a connection to `peer`."""
        host = f"[{peer.host}]" if ":" in peer.host else peer.host
        lines = [f"CONNECT {host}:{peer.port} HTTP/1.1", f"Host: {host}:{peer.port}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        # Read one byte at a time: the bytes after the answer belong to TLS.
        channel = _Channel(sock, self._timeouts, 1, _LONGEST_TUNNEL, self._timeouts.answer)
        response = http.client.HTTPResponse(channel, method="CONNECT")  # type: ignore[arg-type]  # it calls makefile only
        try:
            response.begin()
        finally:
            response.close()
        if not 200 <= response.status < 300:
            raise NoConnection(
                f"the proxy {proxy.host}:{proxy.port} refused a connection to {peer.name} "
                f"({response.status} {shown(response.reason)})",
                peer.name,
            )


class _Connection:
    """One connection; used by one exchange at a time."""

    def __init__(self, sock: socket.socket, peer: Peer, timeouts: Timeouts, stop: Stop) -> None:
        self.peer = peer
        self.kept_since = -math.inf  # of the monotonic clock
        self._sock = sock
        self._timeouts = timeouts
        self._stop = stop

    def is_usable(self) -> bool:
        """Tell whether an idle connection is young, and the server has not closed it."""
        if time.monotonic() - self.kept_since > _KEPT:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def exchange(self, head: bytes, request: HttpRequest) -> http.client.HTTPResponse:
        """Send a request and read the head of its answer."""
        self._sock.settimeout(self._timeouts.idle)
        try:
            self._sock.sendall(head)
            for piece in request.body or ():
                self._stop.check()
                self._sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server that refuses a body may answer before it has read all of it
        limit = None if request.limit is None else request.limit * _FRAMES + _HEADERS
        first = self._timeouts.answer if request.body is None else self._timeouts.stored
        channel = _Channel(self._sock, self._timeouts, _BUFFER, limit, first)
        response = http.client.HTTPResponse(channel, method=request.method)  # type: ignore[arg-type]  # it calls makefile only
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response

    def close(self) -> None:
        self._sock.close()


class _Channel(NamedTuple):
    """What HTTPResponse needs of a socket."""

    sock: socket.socket
    timeouts: Timeouts
    buffer: int
    limit: int | None
    first: float

    def makefile(self, _mode: str) -> io.BufferedReader:
        paced = _Paced(self.sock, self.timeouts, self.limit)
        self.sock.settimeout(self.first)
        return io.BufferedReader(paced, self.buffer)


class _Paced(io.RawIOBase):
    """The bytes of one answer from a socket, at a speed that is not too slow."""

    def __init__(self, sock: socket.socket, timeouts: Timeouts, limit: int | None) -> None:
        self._sock = sock
        self._timeouts = timeouts
        self._left = limit
        self._waited = 0.0
        self._came = 0
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        since = time.monotonic()
        count = self._sock.recv_into(buffer)
        if not self._begun:
            self._begun = True
            self._sock.settimeout(self._timeouts.idle)
        else:
            self._waited += time.monotonic() - since
        self._came += count
        if self._waited >= self._timeouts.window:
            if self._came < self._timeouts.least:
                raise TimeoutError
            self._waited, self._came = 0.0, 0
        if self._left is not None:
            self._left -= count
            if self._left < 0:
                raise http.client.HTTPException("it is longer than it may be")
        return count


class _HttpAnswer:
    """The answer of a server."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        request: HttpRequest,
        connection: _Connection,
        keep: Callable[[_Connection], None],
        stop: Stop,
    ) -> None:
        self._response = response
        self._connection: _Connection | None = connection
        self._keep = keep
        self._stop = stop
        self.status = response.status
        self.headers = Headers(response.getheaders())
        self.url = request.url

    def readinto(self, buffer: memoryview, /) -> int:
        if self._connection is None:
            return 0
        with _explained(self._connection.peer, self._stop, begun=True):
            count = self._response.readinto(buffer)
            if not count:
                self._stop.check()
                if self._response.length:
                    raise http.client.IncompleteRead(b"", self._response.length)
            return count

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        response = self._response
        if not response.isclosed() and response.length is not None and response.length <= _DRAINED:
            try:
                while response.readinto(memoryview(bytearray(_DRAINED))):
                    continue
            except (OSError, http.client.HTTPException):
                response.will_close = True
        if response.isclosed() and not response.will_close and not response.length:
            self._keep(connection)
            return
        response.close()
        connection.close()


def _head(request: HttpRequest, peer: Peer, proxy: Proxy | None) -> bytes:
    """Return the request line and the headers."""
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Host": peer.name, **request.headers}
    if proxy is not None:
        target = f"http://{peer.name}{target}"
        if proxy.authorization:
            headers["Proxy-Authorization"] = proxy.authorization
    if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(sum(map(len, request.body or ())))
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += (f"{name}: {value}" for name, value in headers.items())
    if not all(line.isascii() and line.isprintable() for line in lines) or " " in target:
        raise BadAnswer(f"{shown(request.url)} is not an address of HTTP", peer.name)
    return "\r\n".join([*lines, "", ""]).encode("ascii")


@contextmanager
def _explained(peer: Peer, stop: Stop, *, begun: bool = False) -> Iterator[None]:
    """Turn the exceptions of sockets, TLS and the library into errors about `peer`.

    If the answer has `begun`, a failure of TLS means a damaged connection, and another try
    may work.
    """
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        stop.check()
        if begun and isinstance(error, ssl.SSLError):
            text = f"the connection with {peer.name} was damaged; try again"
            raise Interrupted(text, peer.name) from None
        raise _failure(error, peer) from None


def _failure(error: Exception, peer: Peer) -> Exception:
    name = peer.name
    match error:
        case TimeoutError():
            return TooSlow(
                f"{name} is too slow: it sent nothing, or next to nothing, for a while; try later",
                name,
            )
        case ssl.SSLCertVerificationError():
            return CertificateRefused(
                f"the certificate of {name} is not trusted here ({error.verify_message}): put the "
                f"certificate of its authority into /etc/containers/certs.d/{name}/ca.crt, or into "
                "the trust store of this machine",
                name,
            )
        case ssl.SSLError() if error.reason in (
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
            "RECORD_LAYER_FAILURE",
        ):
            return NotTls(
                f"{name} does not speak TLS: if it is meant to speak plain HTTP, "
                "configure it as insecure",
                name,
            )
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return Interrupted(f"{name} closed the connection in the middle; try again", name)
        case ssl.SSLError() if "CERTIFICATE" in (error.reason or ""):
            return CertificateRefused(
                f"{name} wants a certificate of this client, or refuses the one it got: put both "
                f"NAME.cert and NAME.key into /etc/containers/certs.d/{name}/",
                name,
            )
        case ssl.SSLError():
            return TlsFailed(f"no TLS connection with {name}: {error.reason or error}", name)
        case socket.gaierror():
            return NoConnection(f"the host {name} has no address: {error.strerror}", name)
        case ConnectionRefusedError():
            return NoConnection(f"{name} refuses connections: nothing listens there", name)
        case http.client.IncompleteRead() | ConnectionError() | EOFError():
            return Interrupted(f"{name} closed the connection in the middle; try again", name)
        case OSError():
            return NoConnection(f"no connection to {name}: {error.strerror or error}", name)
        case _:
            return BadAnswer(
                f"{name} does not answer in HTTP: {shown(str(error)) or type(error).__name__}", name
            )
