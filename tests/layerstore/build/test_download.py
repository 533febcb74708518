"""ADD of URLs: names, times, checksums, redirects, and hosts that misbehave."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from layerstore.build.adding import add_archives
from layerstore.build.copying import Copier, place_of
from layerstore.build.destination import Destination
from layerstore.build.download import Downloads, file_name, read_checksum
from layerstore.build.source_digest import Digester
from layerstore.build.sources import digest_sources, find_sources
from layerstore.build.tree import Tree
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import Add
from layerstore.containerfile.parse import parse
from layerstore.layer.metadata import Metadata
from layerstore.registry.headers import Headers
from layerstore.registry.transport import Answer, HttpRequest
from tests.layerstore.build.mini_build import listing

DATE = "Sun, 09 Sep 2001 01:46:40 GMT"  # 1,000,000,000 s


Pages = Mapping[str, tuple[int, Mapping[str, str], bytes]]


class Said:
    """An answer of `Host`."""

    def __init__(self, url: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.url = url
        self.status = status
        self.headers = Headers(headers.items())
        self._body = io.BytesIO(body)
        self.closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        return self._body.readinto(buffer)

    def close(self) -> None:
        self.closed = True


class Host:
    """A transport that answers from a table: (status, headers, body) by URL."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.said: list[Said] = []

    def send(self, request: HttpRequest) -> Answer:
        status, headers, body = self._pages.get(request.url, (404, {}, b""))
        self.said.append(Said(request.url, status, headers, body))
        return self.said[-1]

    def close(self) -> None:
        pass


def add(line: str) -> Add:
    one = parse(f"FROM x\n{line}").instructions[1]
    assert isinstance(one, Add)
    return one


def added(tmp_path: Path, line: str, host: Host | None, limit: int = 1000) -> tuple[Path, str]:
    """Carry out an ADD; return the root it was put into, and docker's digest."""
    one = add(line)
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "context").mkdir()
    fds = [os.open(path, os.O_RDONLY) for path in (root, tmp_path / "context")]
    try:
        tree = Tree(fds[1])
        with Downloads(tmp_path, host) as downloads:
            sources = downloads.fetch(one, find_sources(one, tree), limit)
            docker, _, seen = digest_sources(sources, Digester(tree))
            copier = Copier(Destination(fds[0], Metadata(privileged=os.geteuid() == 0)))
            sources, seen = add_archives(one, sources, seen, copier, place_of(one, "/"))
            copier.copy(one, sources, seen, "/")
        return root, docker
    finally:
        for fd in fds:
            os.close(fd)
        if host is not None:
            assert all(said.closed for said in host.said)


def test_a_file_with_its_name_time_and_mode(tmp_path: Path) -> None:
    host = Host({"https://x/d/f%20g?q=1": (200, {"Last-Modified": DATE}, b"data")})
    root, docker = added(tmp_path, "ADD https://x/d/f%20g?q=1 /to/", host)
    made = root / "to/f g"
    assert made.read_bytes() == b"data"
    st = made.stat()
    assert (stat.S_IMODE(st.st_mode), st.st_mtime) == (0o600, 1_000_000_000)
    assert len(docker) == 64


def test_the_digest_is_dockers(tmp_path: Path) -> None:
    host = Host({"http://x/f.txt": (200, {"Last-Modified": DATE}, b"data\n")})
    _, docker = added(tmp_path, "ADD http://x/f.txt /x/", host)
    assert docker == "02165e0bb3172eca14d2c69a755ded7f1c39f9b941861ca418eb713e0ad2dcb8"


def test_a_file_to_a_name_without_a_time(tmp_path: Path) -> None:
    root, _ = added(tmp_path, "ADD http://x/ /name", Host({"http://x/": (200, {}, b"data")}))
    assert (root / "name").read_bytes() == b"data"
    assert (root / "name").stat().st_mtime == 0


def test_the_digest_is_of_name_and_content(tmp_path: Path) -> None:
    digests = []
    for number, (name, body) in enumerate([("a", b"1"), ("a", b"1"), ("b", b"1"), ("a", b"2")]):
        (tmp_path / str(number)).mkdir()
        host = Host({f"https://x/{name}": (200, {}, body)})
        digests.append(added(tmp_path / str(number), f"ADD https://x/{name} /", host)[1])
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("url", "disposition", "name"),
    [
        ("https://x/a/b.tar", "", "b.tar"),
        ("https://x/a/b.tar?c=d/e", "", "b.tar"),
        ("https://x/a/", 'attachment; filename="c.txt"', "c.txt"),
        ("https://x", "attachment; filename=../../c", "c"),
        ("https://x/a/", "", ""),
        ("https://x/a/%2e%2e", "", ""),
        ("https://x/a%2Fb", "", "b"),
        ("https://x/a%00b", "", ""),
        ("https://x/" + "a" * 300, "", ""),
        # RFC 2231: the host names a codec, of which Python has some that are none of text.
        ("https://x/", "attachment; filename*=utf-8''a%20b", "a b"),
        ("https://x/", "attachment; filename*=unicode_escape''%5Cud800", ""),
        ("https://x/", "attachment; filename*=punycode''%ff", ""),
        ("https://x/", "attachment; filename*=a%00b''x", ""),
        ("https://x/", "attachment; filename*=a\0b''x", ""),
    ],
)
def test_name(url: str, disposition: str, name: str) -> None:
    assert file_name(url, Headers([("Content-Disposition", disposition)])) == name


def test_redirects(tmp_path: Path) -> None:
    host = Host(
        {
            "http://x/a": (302, {"Location": "/b"}, b""),
            "http://x/b": (301, {"Location": "https://y/c"}, b""),
            "https://y/c": (200, {}, b"data"),
        }
    )
    root, _ = added(tmp_path, "ADD http://x/a /", host)
    assert (root / "a").read_bytes() == b"data"


def test_archives_are_unpacked_when_asked_for(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("in"))
    host = Host({"https://x/a.tgz": (200, {}, data.getvalue())})
    for name, flags, paths in [
        ("plain", "", ["d", "d/a.tgz"]),
        ("unpacked", "--unpack ", ["d", "d/in"]),
    ]:
        (tmp_path / name).mkdir()
        root, _ = added(tmp_path / name, f"ADD {flags}https://x/a.tgz /d/", host)
        assert list(listing(root)) == paths


def test_a_checksum_that_is_right(tmp_path: Path) -> None:
    for algorithm in ("sha256", "sha384", "sha512"):
        checksum = f"{algorithm}:{hashlib.new(algorithm, b'data').hexdigest()}"
        (tmp_path / algorithm).mkdir()
        host = Host({"https://x/f": (200, {}, b"data")})
        added(tmp_path / algorithm, f"ADD --checksum={checksum} https://x/f /", host)


@pytest.mark.parametrize(
    ("line", "pages", "reason"),
    [
        ("ADD https://x/f /", {}, "https://x/f: the host answered with status 404"),
        ("ADD https://x/ /d/", {"https://x/": (200, {}, b"")}, "cannot determine filename"),
        ("ADD https://x/f /", {"https://x/f": (200, {}, b"a" * 1001)}, "larger than 1,000 bytes"),
        (
            "ADD https://x/f /",
            {"https://x/f": (302, {"Location": "http://x/g"}, b"")},
            "it leads to http://x/g, which is not https",
        ),
        (
            "ADD https://x/f /",
            {"https://x/f": (302, {"Location": "https://x/f"}, b"")},
            "from one URL to the next more than 10 times",
        ),
        (
            f"ADD --checksum=sha256:{'0' * 64} https://x/f /",
            {"https://x/f": (200, {}, b"data")},
            f"digest mismatch sha256:{hashlib.sha256(b'data').hexdigest()}: sha256:{'0' * 64} was",
        ),
        (
            "ADD https://x/f /",
            {"https://x/f": (302, {"Location": "HTTP://x/g"}, b"")},
            "it leads to HTTP://x/g, which is not https",
        ),
        (
            "ADD http://x/f /",
            {
                "http://x/f": (302, {"Location": "HTTPS://x/g"}, b""),
                "HTTPS://x/g": (302, {"Location": "http://x/h"}, b""),
            },
            "it leads to http://x/h, which is not https",
        ),
        (
            "ADD http://x/f /",
            {"http://x/f": (302, {"Location": "http://[x/g"}, b"")},
            "it leads to http://[x/g, which is not an address of HTTP",
        ),
        (
            "ADD http://x/f /",
            {"http://x/f": (302, {"Location": "file:///etc/passwd"}, b"")},
            "it leads to file:///etc/passwd, which is not an address of HTTP",
        ),
        ("ADD https://u:pa55@x/f /", {}, "a URL with a user or password is refused"),
        ("ADD http://[x/f /", {}, "http://[x/f: that is not an address of HTTP"),
        ("ADD http://x:99999/f /", {}, "http://x:99999/f: that is not an address of HTTP"),
        ("ADD http:///f /", {}, "http:///f: that is not an address of HTTP"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    line: str,
    pages: Pages,
    reason: str,
) -> None:
    with pytest.raises(ContainerfileError) as caught:
        added(tmp_path, line, Host(pages))
    assert str(caught.value).startswith("Containerfile:2: ")
    assert reason in str(caught.value)
    assert "pa55" not in caught.value.reason


@pytest.mark.parametrize("text", ["sha256:1", "md5:" + "0" * 32, "0" * 64, "sha256:" + "G" * 64])
def test_a_checksum_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ContainerfileError, match="is not a digest: write sha256:"):
        read_checksum(add(f"ADD --checksum={text} https://x/f /"))


@contextmanager
def serving(body: bytes, announced: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_real_host(tmp_path: Path) -> None:
    with serving(b"data", 4) as url:
        root, _ = added(tmp_path, f"ADD {url}/f /", None)
    assert (root / "f").read_bytes() == b"data"


def test_a_host_that_ends_early_is_said(tmp_path: Path) -> None:
    with (
        serving(b"da", 4) as url,
        pytest.raises(ContainerfileError, match="closed the connection in the middle"),
    ):
        added(tmp_path, f"ADD {url}/f /", None)


def test_a_host_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ContainerfileError, match="nothing listens there"):
        added(tmp_path, "ADD http://127.0.0.1:1/f /", None)
