"""One repository of a registry: its manifests, blobs and tags.

Source: distribution-spec 1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from urllib.parse import quote, urlencode

from layerstore.errors import InvalidDigest, InvalidImage, shown
from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from layerstore.oci.json_values import DOCUMENT_LIMIT, parse_document, text_of
from layerstore.oci.reference import familiar_name
from layerstore.registry.blob_body import BlobBody, BlobSource
from layerstore.registry.choice import refuse_schema_1
from layerstore.registry.errors import (
    BadAnswer,
    BlobUnknown,
    Cancelled,
    Denied,
    ManifestUnknown,
    RegistryError,
    RepositoryUnknown,
    TooLarge,
    Unauthorized,
    Unreachable,
    WrongContent,
)
from layerstore.registry.headers import length, media_type
from layerstore.registry.host_client import Call, HostClient, Reply
from layerstore.registry.pages import pages
from layerstore.registry.remote import Document
from layerstore.registry.retries import Notice
from layerstore.registry.tokens import pull_scope, push_scope
from layerstore.registry.transport import Answer
from layerstore.registry.uploads import CHUNK, Upload
from unionfs.light_typing import NamedTuple, TypeVar

MANIFEST_LIMIT = 4 << 20  # bytes: the spec asks registries to take as much
_TYPES = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)
_ACCEPT = ", ".join(_TYPES)

_T = TypeVar("_T")


class ManifestHead(NamedTuple):
    """The answer to HEAD for a manifest; a field is None if the registry does not send it."""

    digest: Digest | None
    media_type: str
    size: int | None


class Site(NamedTuple):
    """A repository at one host: the client with the host, and the name it has there."""

    client: HostClient
    name: str


class Repository:
    """One repository, at its registry and at the mirrors that come before it for reads.

    Used from many threads.  `name` is its full name, as "docker.io/library/debian".
    `reads` opens the places to read from when they are needed, the mirrors first;
    `home` is its registry itself, which alone is written to.
    """

    def __init__(self, name: str, home: Site, mirrors: Sequence[Callable[[], Site]] = ()) -> None:
        self.name = name
        self._home = home
        self._mirrors = tuple(mirrors)
        self._down: set[Site] = set()

    @property
    def host(self) -> str:
        """The host of the registry."""
        return self._home.client.host

    # -- manifests

    def head_manifest(self, reference: str) -> ManifestHead | None:
        """Return the answer to HEAD for the tag or digest; None if HEAD is refused.

        HEAD does not count for the pull limits of Docker Hub.  Raises ManifestUnknown.
        """

        def head(site: Site) -> ManifestHead | None:
            call = self._manifest_call(site, "HEAD", reference)._replace(expected=(200, 400, 405))
            try:
                answer = site.client.open(call)
            except (Unauthorized, Denied):
                return None  # some registries refuse HEAD only; GET shows the reason
            answer.close()
            if answer.status != 200:
                return None
            return ManifestHead(
                _digest_of(answer.headers.get("Docker-Content-Digest")),
                media_type(answer.headers.get("Content-Type")),
                length(answer.headers.get("Content-Length")),
            )

        return self._first(head)

    def get_manifest(self, reference: str) -> Document:
        """Fetch the manifest or index of a tag or digest, with its bytes unchanged.

        Raises ManifestUnknown, WrongContent, TooLarge, or BadAnswer.
        """

        def get(site: Site) -> Document:
            call = self._manifest_call(site, "GET", reference)._replace(limit=MANIFEST_LIMIT)
            return checked_document(site.client.read(call), site.client.host, reference)

        return self._first(get)

    def put_manifest(self, reference: str, data: bytes, kind: str) -> Digest:
        """Store a manifest or index under a tag or its digest; return its digest.

        The blobs and manifests that it names have to be in the registry already.  Raises
        WrongContent if the registry computed another digest, and Refused.
        """
        client, name = self._home
        call = Call(
            "PUT",
            f"/v2/{name}/manifests/{quote(reference, safe=':')}",
            f"the manifest of {self.name}:{reference}",
            (push_scope(name),),
            name,
            {"Content-Type": kind},
            (data,),
            missing=RepositoryUnknown,
            expected=(200, 201, 202),
        )
        answer = client.open(call)
        answer.close()
        own = sha256_digest(data)
        theirs = _digest_of(answer.headers.get("Docker-Content-Digest"))
        if theirs is not None and theirs != own:
            raise WrongContent(
                f"{client.host} stored the manifest of {self.name} as {theirs} instead of {own}",
                client.host,
            )
        return own

    # -- blobs

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether the registry has the blob in this repository."""
        return self._has(digest, push_scope(self._home.name))

    @contextmanager
    def open_blob(
        self, descriptor: Descriptor, offset: int = 0, notice: Notice | None = None
    ) -> Iterator[BlobBody]:
        """Open a blob for reading from `offset` on; see BlobBody.

        Its size is checked, its digest is not.  `notice` is called before each wait for
        another try.  Raises BlobUnknown.
        """

        sources = (
            BlobSource(site.client, partial(self._ask, site, descriptor, notice))
            for site in self._sites()
        )
        with BlobBody(sources, descriptor, offset, notice) as body:
            yield body

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a whole blob that is a document; its size and digest were checked.

        Raises TooLarge for one of more than `DOCUMENT_LIMIT` bytes.
        """
        if descriptor.size > DOCUMENT_LIMIT:
            raise TooLarge(
                f"the document {descriptor.digest} of {self.name} has {descriptor.size} bytes; "
                f"more than {DOCUMENT_LIMIT >> 20} MiB are not read",
                self.host,
            )
        with self.open_blob(descriptor) as body:
            data = b"".join(body.chunks())
        if sha256_digest(data) != descriptor.digest:
            raise WrongContent(
                f"{self.host} sent something else than the blob {descriptor.digest} of "
                f"{self.name}: it was damaged or altered",
                self.host,
            )
        return data

    def mount_blob(self, digest: Digest, source: str) -> Upload | None:
        """Mount a blob of the repository `source` of this registry into this repository.

        `source` is a name without its host.  Returns None if the blob is mounted, and
        otherwise the upload that the registry opened instead.
        """
        client, name = self._home
        scopes = (push_scope(name), pull_scope(source))
        query = urlencode({"mount": digest, "from": source}, safe=":/")
        call = Call(
            "POST",
            f"/v2/{name}/blobs/uploads/?{query}",
            f"the blob {digest} of {source}",
            scopes,
            name,
            expected=(201, 202),
        )
        answer = client.open(call)
        answer.close()
        if answer.status == 201:
            return None
        return Upload(client, name, (push_scope(name),), answer)

    def upload(self, chunk: int = CHUNK, notice: Notice | None = None) -> Upload:
        """Return an upload; its bytes are written piece by piece."""
        client, name = self._home
        return Upload(client, name, (push_scope(name),), None, chunk, notice)

    def upload_blob(
        self,
        chunks: Iterable[bytes],
        digest: Digest | None = None,
        chunk: int = CHUNK,
        notice: Notice | None = None,
    ) -> Digest:
        """Upload a blob and return its digest, which is that of all `chunks`.

        Raises UploadInvalid if it is not the given `digest`, and UploadLost if the registry
        lost the upload, which then has to start again.
        """
        with self.upload(chunk, notice) as upload:
            for data in chunks:
                upload.write(data)
            return upload.commit(digest)

    # -- lists

    def tags(self) -> list[str]:
        """Return all tags of the repository, as the registry lists them."""
        client, name = self._home
        call = Call(
            "GET",
            f"/v2/{name}/tags/list",
            f"the tags of {self.name}",
            (pull_scope(name),),
            name,
            missing=RepositoryUnknown,
        )
        found: list[str] = []
        for page in pages(client, call):
            listed = page.get("tags")
            found += (
                [tag for tag in listed or () if isinstance(tag, str)]
                if isinstance(listed, list)
                else []
            )
        return found

    # -- parts

    def _first(self, ask: Callable[[Site], _T]) -> _T:
        """Return the result of `ask` at the first site that is reachable and has it."""
        for site in self._sites():
            try:
                return ask(site)
            except Cancelled:
                raise
            except RegistryError as error:
                # A mirror may lack it, or be closed to us: the next site decides.
                if site is self._home:
                    raise
                if isinstance(error, Unreachable):
                    self._down.add(site)
        raise AssertionError("there is always a registry")

    def _sites(self) -> Iterator[Site]:
        """Yield the places to read, the registry last; a mirror that is down is asked once."""
        for mirror in self._mirrors:
            site = mirror()
            if site not in self._down:
                yield site
        yield self._home

    def _manifest_call(self, site: Site, method: str, reference: str) -> Call:
        joint = "@" if ":" in reference else ":"
        return Call(
            method,
            f"/v2/{site.name}/manifests/{quote(reference, safe=':')}",
            f"the manifest {self.name}{joint}{reference}",
            (pull_scope(site.name),),
            site.name,
            {"Accept": _ACCEPT},
            missing=ManifestUnknown,
            image=f"{familiar_name(self.name)}{joint}{reference}",
        )

    def _has(self, digest: Digest, scope: str) -> bool:
        client, name = self._home
        call = Call(
            "HEAD",
            f"/v2/{name}/blobs/{digest}",
            f"the blob {digest} of {self.name}",
            (scope,),
            name,
            expected=(200, 404),
        )
        answer = client.open(call)
        answer.close()
        return answer.status == 200

    def _ask(
        self, site: Site, descriptor: Descriptor, notice: Notice | None, offset: int
    ) -> Answer:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        call = Call(
            "GET",
            f"/v2/{site.name}/blobs/{descriptor.digest}",
            f"the blob {descriptor.digest} of {self.name}",
            (pull_scope(site.name),),
            site.name,
            headers,
            limit=descriptor.size,
            missing=BlobUnknown,
            expected=(200, 206, 416, 400) if offset else (200, 206),
        )
        return site.client.open(call, notice)


def _digest_of(text: str | None) -> Digest | None:
    """Return the digest in a header; None without one, or if its algorithm is unknown."""
    try:
        return Digest.parse((text or "").strip())
    except InvalidDigest:
        return None


def checked_document(reply: Reply, host: str, reference: str) -> Document:
    """Return the manifest or index in `reply`, the answer of `host` for a tag or digest.

    Raises UnknownMediaType, WrongContent and BadAnswer.
    """
    announced = media_type(reply.headers.get("Content-Type"))
    refuse_schema_1(announced)  # first: its digest is not that of its bytes
    digest = sha256_digest(reply.data)
    wanted = _digest_of(reference) or _digest_of(reply.headers.get("Docker-Content-Digest"))
    if wanted is not None and wanted != digest:
        raise WrongContent(
            f"{host} sent a manifest with the digest {digest} for {wanted}: it was damaged or "
            "altered",
            host,
        )
    try:
        kind = text_of(parse_document(reply.data, "manifest"), "mediaType")
    except InvalidImage as error:
        raise BadAnswer(f"{host} sent something else than a manifest: {error}", host) from None
    if announced not in _TYPES:
        announced = ""  # such as application/json, or of a static file server
    if kind and announced and kind != announced:
        raise BadAnswer(
            f"{host} sent a manifest as {announced} that calls itself {shown(kind)}", host
        )
    return Document(reply.data, kind or announced, digest)
