"""A registry on loopback that keeps to the protocol, but for what a test makes it do wrong.

    with HostileRegistry.running() as registry:
        registry.add_blob(b"…")
        registry.behave(truncated(100))

What is not covered by a behaviour is answered honestly, from memory.  A behaviour is a
callable that gets each request first; it answers by the methods of `Exchange` and
returns True, or returns False and leaves the request to the next one.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_RANGE = re.compile(r"bytes=([0-9]+)-")


class Exchange(BaseHTTPRequestHandler):
    """One request and what is answered to it."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True
    body: bytes

    @property
    def registry(self) -> HostileRegistry:
        assert isinstance(self.server, _Server)
        return self.server.registry

    @property
    def method(self) -> str:
        return self.command

    @property
    def route(self) -> str:
        """The path of the request without its query."""
        return urlsplit(self.path).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)

    @property
    def is_blob(self) -> bool:
        return self.method == "GET" and "/blobs/sha256:" in self.route

    @property
    def is_manifest(self) -> bool:
        return "/manifests/" in self.route

    @property
    def offset(self) -> int:
        """The first byte that `Range` asks for."""
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        return int(found[1]) if found else 0

    def reply(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> bool:
        """Answer with `body`; `length` is what is announced in place of its length."""
        announced = {"Content-Length": str(len(body) if length is None else length)}
        lines = {**announced, **(headers or {})}
        self.send_response(status)
        for name, value in lines.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.method != "HEAD":
            self.wfile.write(body)
        return True

    def error(self, status: int, code: str, headers: dict[str, str] | None = None) -> bool:
        """Answer with an error as the spec writes it."""
        body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
        return self.reply(status, body, {"Content-Type": "application/json", **(headers or {})})

    def raw(self, data: bytes) -> bool:
        """Send bytes as they are, and close the connection after them."""
        self.close_connection = True
        self.wfile.write(data)
        return True

    def drop(self) -> bool:
        """Break the connection without an answer."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        return True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.registry.answer(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle


Behaviour = Callable[[Exchange], bool]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(self, registry: HostileRegistry) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.registry = registry
        self._open: set[socket.socket] = set()

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]  # it is never datagrams
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)

    def end(self) -> None:
        """End the connections, whose threads are then waited for."""
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that goes away in the middle is what the tests are about


@dataclass
class HostileRegistry:
    """The server; `host` is "127.0.0.1:PORT"."""

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    page: int = 100
    behaviours: list[Behaviour] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[HostileRegistry]:
        registry = cls()
        with _Server(registry) as server:
            registry.host = f"127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield registry
            finally:
                registry.over.set()
                server.shutdown()
                thread.join()
                server.end()

    def behave(self, *behaviours: Behaviour) -> None:
        """Let these answer what they want to, the first one first."""
        self.behaviours[:] = behaviours

    def add_blob(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def add_manifest(self, tag: str, data: bytes, kind: str = MANIFEST) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.manifests[tag] = self.manifests[digest] = (data, kind)
        return digest

    def count(self, method: str, part: str = "") -> int:
        """Return how many requests with `part` in their path there were."""
        return sum(1 for m, path, _ in self.requests if m == method and part in path)

    def answer(self, exchange: Exchange) -> None:
        with self._lock:
            self.requests.append((exchange.method, exchange.path, dict(exchange.headers)))
        if not any(behaviour(exchange) for behaviour in self.behaviours):
            self.honest(exchange)

    def honest(self, exchange: Exchange) -> bool:
        route = exchange.route
        if route == "/v2/":
            return exchange.reply(200, b"{}")
        if "/manifests/" in route:
            return self._manifest(exchange)
        if "/blobs/uploads/" in route:
            return self._upload(exchange)
        if "/blobs/" in route:
            return self._blob(exchange)
        if route.endswith(("/tags/list", "/_catalog")):
            return self._list(exchange)
        return exchange.error(404, "UNSUPPORTED")

    def _manifest(self, exchange: Exchange) -> bool:
        reference = exchange.route.rpartition("/")[2]
        if exchange.method == "PUT":
            digest = self.add_manifest(reference, exchange.body, exchange.headers["Content-Type"])
            return exchange.reply(201, b"", {"Docker-Content-Digest": digest})
        if reference not in self.manifests:
            return exchange.error(404, "MANIFEST_UNKNOWN")
        data, kind = self.manifests[reference]
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        return exchange.reply(200, data, {"Content-Type": kind, "Docker-Content-Digest": digest})

    def _blob(self, exchange: Exchange) -> bool:
        data = self.blobs.get(exchange.route.rpartition("/")[2])
        if data is None:
            return exchange.error(404, "BLOB_UNKNOWN")
        offset = exchange.offset
        if not offset:
            return exchange.reply(200, data)
        if offset >= len(data):
            return exchange.reply(416)
        part = f"bytes {offset}-{len(data) - 1}/{len(data)}"
        return exchange.reply(206, data[offset:], {"Content-Range": part})

    def _upload(self, exchange: Exchange) -> bool:
        if exchange.method == "POST":
            number = str(len(self.uploads))
            self.uploads[number] = bytearray()
            return exchange.reply(202, b"", self.place(exchange, number))
        number = exchange.route.rpartition("/")[2]
        if number not in self.uploads:
            return exchange.error(404, "BLOB_UPLOAD_UNKNOWN")
        held = self.uploads[number]
        if exchange.method == "DELETE":
            del self.uploads[number]
            return exchange.reply(204)
        if exchange.method == "GET":
            return exchange.reply(204, b"", self.place(exchange, number))
        said = exchange.headers.get("Content-Range")
        if said is not None and int(said.partition("-")[0]) != len(held):
            return exchange.reply(416, b"", self.place(exchange, number))
        held += exchange.body
        if exchange.method == "PATCH":
            return exchange.reply(202, b"", self.place(exchange, number))
        digest = "sha256:" + hashlib.sha256(held).hexdigest()
        if exchange.query.get("digest") != [digest]:
            return exchange.error(400, "DIGEST_INVALID")
        self.add_blob(bytes(held))
        del self.uploads[number]
        return exchange.reply(201, b"", {"Location": f"/v2/x/blobs/{digest}"})

    def place(self, exchange: Exchange, number: str) -> dict[str, str]:
        """Return the headers that say where an upload goes on, and what is there."""
        held = len(self.uploads[number])
        prefix = exchange.route.partition("/blobs/uploads/")[0]
        return {
            "Location": f"{prefix}/blobs/uploads/{number}?state={held}",
            "Range": f"0-{max(held - 1, 0)}",
        }

    def _list(self, exchange: Exchange) -> bool:
        is_tags = exchange.route.endswith("/tags/list")
        names = sorted(name for name in self.manifests if ":" not in name)
        last = exchange.query.get("last", [""])[0]
        rest = [name for name in names if name > last]
        page, headers = rest[: self.page], {}
        if len(rest) > self.page:
            headers["Link"] = f'<{exchange.route}?last={page[-1]}&n={self.page}>; rel="next"'
        field_name = "tags" if is_tags else "repositories"
        return exchange.reply(200, json.dumps({field_name: page}).encode(), headers)


# -- what a registry may do wrong: blobs


def truncated(count: int, times: int = 1 << 30, ranges: bool = True) -> Behaviour:
    """Announce a whole blob, but close after `count` bytes of each answer, `times` times."""
    left = [times]

    def behave(exchange: Exchange) -> bool:
        if not exchange.is_blob or left[0] <= 0:
            return not ranges and exchange.is_blob and _whole(exchange)
        left[0] -= 1
        data = exchange.registry.blobs[exchange.route.rpartition("/")[2]]
        offset = exchange.offset if ranges else 0
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data) - offset}\r\n"
        if offset:
            head = (
                f"HTTP/1.1 206 Partial\r\nContent-Length: {len(data) - offset}\r\n"
                f"Content-Range: bytes {offset}-{len(data) - 1}/{len(data)}\r\n"
            )
        return exchange.raw(head.encode() + b"\r\n" + data[offset : offset + count])

    return behave


def _whole(exchange: Exchange) -> bool:
    return exchange.reply(200, exchange.registry.blobs[exchange.route.rpartition("/")[2]])


def without_ranges(exchange: Exchange) -> bool:
    """Ignore `Range`."""
    return exchange.is_blob and _whole(exchange)


def range_refused(status: int) -> Behaviour:
    """Answer a `Range` with an error."""
    return lambda exchange: exchange.is_blob and bool(exchange.offset) and exchange.reply(status)


def another_range(first: int, total: int | None = None) -> Behaviour:
    """Answer a `Range` with the part from `first` on, or with another total."""

    def behave(exchange: Exchange) -> bool:
        if not exchange.is_blob or not exchange.offset:
            return False
        data = exchange.registry.blobs[exchange.route.rpartition("/")[2]]
        said = len(data) if total is None else total
        part = f"bytes {first}-{len(data) - 1}/{said}"
        return exchange.reply(206, data[first:], {"Content-Range": part})

    return behave


def other_content(data: bytes) -> Behaviour:
    """Send `data` for each blob."""
    return lambda exchange: exchange.is_blob and exchange.reply(200, data)


def in_chunks(extra: bytes = b"", encoding: str = "", cut: bool = False) -> Behaviour:
    """Send a blob without its length, with `extra` bytes at its end."""

    def behave(exchange: Exchange) -> bool:
        if not exchange.is_blob:
            return False
        data = exchange.registry.blobs[exchange.route.rpartition("/")[2]] + extra
        encoded = f"Content-Encoding: {encoding}\r\n" if encoding else ""
        head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{encoded}\r\n".encode()
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in data)
        return exchange.raw(head + pieces + (b"" if cut else b"0\r\n\r\n"))

    return behave


def endless(part: str) -> Behaviour:
    """Answer requests with `part` in their path with a body that never ends."""

    def behave(exchange: Exchange) -> bool:
        if exchange.method != "GET" or part not in exchange.path:
            return False
        exchange.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        while not exchange.registry.over.is_set():
            exchange.wfile.write(piece)
        return True

    return behave


def slowly(part: str, head: bytes) -> Behaviour:
    """Send `head`, and then a byte from time to time."""

    def behave(exchange: Exchange) -> bool:
        if exchange.method != "GET" or part not in exchange.path:
            return False
        exchange.raw(head)
        while not exchange.registry.over.wait(0.02):
            exchange.wfile.write(b"x")
            exchange.wfile.flush()
        return True

    return behave


def silent(part: str) -> Behaviour:
    """Take a request, and never answer."""

    def behave(exchange: Exchange) -> bool:
        if part not in exchange.path:
            return False
        exchange.close_connection = True
        return exchange.registry.over.wait(20)

    return behave


# -- any request


def always(
    status: int,
    part: str = "",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    times: int = 1 << 30,
) -> Behaviour:
    """Answer requests with `part` in their path with `status`, `times` times."""
    left = [times]

    def behave(exchange: Exchange) -> bool:
        if part not in exchange.path or left[0] <= 0:
            return False
        left[0] -= 1
        return exchange.reply(status, body, headers)

    return behave


def dropped(method: str, part: str, times: int = 1) -> Behaviour:
    """Break the connection of such requests without an answer, `times` times."""
    left = [times]

    def behave(exchange: Exchange) -> bool:
        if exchange.method != method or part not in exchange.path or left[0] <= 0:
            return False
        left[0] -= 1
        return exchange.drop()

    return behave


def redirected(part: str, location: str, status: int = 307) -> Behaviour:
    """Lead requests with `part` in their path to `location`."""
    return lambda exchange: (
        part in exchange.path and exchange.reply(status, b"", {"Location": location})
    )


def answered(part: str, data: bytes) -> Behaviour:
    """Answer requests with `part` in their path by these bytes, which may be no HTTP."""
    return lambda exchange: part in exchange.path and exchange.raw(data)
