"""ADD of URLs: files fetched over HTTP before they are copied.

    with Downloads(directory) as downloads:
        sources = downloads.fetch(one, sources)

This module alone decides the name, time and mode of a download, and its largest size.
Redirects are followed, but never from https to http; the content is compared with
`--checksum`.  A URL with a password is refused, because the history of the image would show
the password.

Threading: one thread.  Source: the Dockerfile reference, "ADD --checksum"; moby
`builder/dockerfile/copy.go`, downloadSource.
"""

from __future__ import annotations

import email.message
import email.utils
import hashlib
import os
import posixpath
import re
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from layerstore.build.source_digest import of_file
from layerstore.build.sources import DOWNLOAD_MODE, DownloadSource, Sources
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import Add
from layerstore.errors import StoreError, shown
from layerstore.oci.durations import SECOND
from layerstore.registry.certificates import context_for
from layerstore.registry.headers import Headers
from layerstore.registry.http_transport import HttpTransport
from layerstore.registry.transport import Answer, HttpRequest, Transport
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.copyfile import write_at

UNNAMED = "__unnamed__"
LARGEST = 16 << 30  # bytes of one download
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_CHUNK = 1 << 20
_ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Checksum(NamedTuple):
    """A digest that a download must have."""

    algorithm: str
    encoded: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


class Downloads:
    """Fetches the URLs of ADDs into unnamed files in `directory`, and closes them at the end.

    `transport` carries the requests; by default this object makes and closes its own.
    """

    def __init__(self, directory: Path, transport: Transport | None = None) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._transport = transport

    def __enter__(self) -> Downloads:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fetch(self, one: Add, sources: Sources, limit: int = LARGEST) -> Sources:
        """Return `sources` with their URLs downloaded; raises ContainerfileError.

        This object closes the descriptors; a process that is forked later inherits them.
        """
        checksum = read_checksum(one)
        fetched = []
        for url in sources.remote:
            try:
                fetched.append(self._fetch(one, url, checksum, limit))
            except ContainerfileError:
                raise
            except StoreError as error:
                raise ContainerfileError(one.at, f"{shown(url)}: {error}") from error
        return sources._replace(found=(*sources.found, *fetched), remote=())

    def _fetch(self, one: Add, url: str, checksum: Checksum | None, limit: int) -> DownloadSource:
        if _has_user(url):
            raise ContainerfileError(
                one.at,
                "a URL with a user or password is refused, since it would stay in the history: "
                "use RUN with a secret",
            )
        if self._transport is None:
            transport = HttpTransport(lambda host: context_for(host, (), insecure=False))
            self._stack.callback(transport.close)
            self._transport = transport
        answer = _answered(self._transport, url)
        try:
            name = file_name(url, answer.headers)
            if not name and one.destination.endswith("/"):
                raise StoreError(
                    "cannot determine filename for it: name the file in the destination"
                )
            fd = os.open(self._directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
            self._stack.callback(os.close, fd)
            digest = hashlib.new(checksum.algorithm if checksum else "sha256")
            buffer = memoryview(bytearray(_CHUNK))
            size = 0
            while count := answer.readinto(buffer):
                if size + count > limit:
                    raise StoreError(f"it is larger than {limit:,} bytes, which is the limit")
                digest.update(buffer[:count])
                write_at(fd, buffer[:count], size)
                size += count
            mtime_ns = _last_modified(answer.headers)
        finally:
            answer.close()
        if checksum is not None and digest.hexdigest() != checksum.encoded:
            found = Checksum(checksum.algorithm, digest.hexdigest())
            raise StoreError(f"digest mismatch {found}: {checksum} was expected")
        name = name or UNNAMED
        digested = of_file(name, fd, DOWNLOAD_MODE)
        return DownloadSource(url, name, fd, mtime_ns, digested)


def read_checksum(one: Add) -> Checksum | None:
    """Return the digest in `--checksum`, None without it; raises ContainerfileError."""
    if not one.checksum:
        return None
    algorithm, _, encoded = one.checksum.partition(":")
    length = _ALGORITHMS.get(algorithm)
    if length is None or not re.fullmatch(rf"[0-9a-f]{{{length}}}", encoded):
        raise ContainerfileError(
            one.at,
            f"--checksum={shown(one.checksum)} is not a digest: write sha256: and 64 hexadecimal "
            "digits",
        )
    return Checksum(algorithm, encoded)


def _has_user(url: str) -> bool:
    """Tell whether `url` has a user or a password; raises StoreError if it is no URL."""
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            raise ValueError("it has no host, or the port 0")
        return "@" in parts.netloc
    except ValueError as error:
        raise StoreError(f"that is not an address of HTTP: {error}") from None


def file_name(url: str, headers: Headers) -> str:
    """Return the name of a download, from its URL or from the answer of the host; else ""."""
    path = unquote(urlsplit(url).path, errors="surrogateescape")
    if path and not path.endswith("/"):
        return _plain(posixpath.basename(path))
    message = email.message.Message()
    message["Content-Disposition"] = headers.get("Content-Disposition") or ""
    try:
        found = message.get_filename() or ""
    except ValueError:
        found = ""  # RFC 2231 lets the host name any codec of Python, and some of them raise it
    return _plain(posixpath.basename(found))


def _plain(name: str) -> str:
    """Return `name`, "" if it is not a valid file name."""
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        return ""  # it has half of a surrogate pair
    return "" if name in (".", "..") or "\0" in name or length > 255 else name


def _answered(transport: Transport, url: str) -> Answer:
    """Return the answer to `url` after all redirects."""
    for _ in range(_MOST_REDIRECTS):
        answer = transport.send(
            HttpRequest("GET", url, {"Accept-Encoding": "identity"}, limit=LARGEST)
        )
        if answer.status == 200:
            return answer
        answer.close()
        target = answer.headers.get("Location")
        if answer.status not in _REDIRECTS or not target:
            raise StoreError(f"the host answered with status {answer.status}")
        further = _located(url, target)
        if _scheme(url) == "https" and _scheme(further) != "https":
            raise StoreError(f"it leads to {shown(further)}, which is not https")
        url = further
    raise StoreError(f"it leads from one URL to the next more than {_MOST_REDIRECTS} times")


def _located(url: str, target: str) -> str:
    """Return the address of `target` in an answer from `url`; raises StoreError."""
    try:
        further = urljoin(url, target)
        if _scheme(further) in ("http", "https"):
            return further
    except ValueError:
        pass
    raise StoreError(f"it leads to {shown(target)}, which is not an address of HTTP")


def _scheme(url: str) -> str:
    return urlsplit(url).scheme  # in lower case


def _last_modified(headers: Headers) -> int:
    """Return the time of a download in ns, 0 if the host does not send one."""
    try:
        found = email.utils.parsedate_to_datetime(headers.get("Last-Modified") or "")
        return max(0, int(found.timestamp())) * SECOND
    except (TypeError, ValueError, OverflowError):
        return 0
