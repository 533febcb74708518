"""Images and their names: how a name or an id is resolved, and how names change.

A tag names one image; tagging another image moves it.  The digest of an index names every
image that was pulled from it, one for each platform, and means the one that was pulled last.

Threading: any thread.  Source: moby `daemon/images/image.go` (the order in
which a text is tried as a name and as an id), `image_tag.go`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from layerstore.blobs import BlobStore
from layerstore.db.database import Database
from layerstore.db.image_table import ImageRow, ImageTable, NameRow
from layerstore.errors import AmbiguousId, NoSuchImage
from layerstore.oci.digest import SHORT, Digest
from layerstore.oci.documents import ImageConfig
from layerstore.oci.reference import Reference, familiar, parse_reference, parse_tag_target
from unionfs.light_typing import NamedTuple

_ID = r"(?:sha256:)?([0-9a-f]{1,64})"


class Image(NamedTuple):
    """An image as it was when it was read.

    `top` is the chain_id of its last layer, None for an image without layers;
    `size` is the bytes of its layers' files; `tags` and `repo_digests` are its
    names, sorted.
    """

    id: Digest
    top: Digest | None
    parent: Digest | None
    created_ns: int
    size: int
    architecture: str
    os: str
    tags: tuple[Reference, ...] = ()
    repo_digests: tuple[Reference, ...] = ()

    @property
    def references(self) -> tuple[Reference, ...]:
        """All its names."""
        return self.tags + self.repo_digests


class ImageRows:
    """The images of a store, as rows and names."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._rows = ImageTable(database)
        self._blobs = blobs

    # -- reading --

    def get(self, image_id: Digest) -> Image:
        """Return the image of that id; raises NoSuchImage."""
        row = self._rows.get(image_id)
        if row is None:
            raise NoSuchImage(image_id)
        return self._with_names(row)

    def resolve(self, text: str) -> Image:
        """Return the image that `text` names: a reference, an id or a prefix of an id.

        Raises NoSuchImage, InvalidReference for a text that is not a name, and AmbiguousId
        for a prefix of several ids.
        """
        return self.get(self.identify(text))

    def identify(self, text: str) -> Digest:
        """Return the id of the image that `text` names, as `resolve` does."""
        whole = re.fullmatch(r"(?:sha256:)?([0-9a-f]{64})", text)
        if whole:
            image_id = Digest.of_hex(whole[1])
            if not self.exists(image_id):
                raise NoSuchImage(image_id)
            return image_id
        reference = parse_reference(text).with_default_tag()
        found = self.named(reference) or self._by_prefix(text)
        if found is None:
            raise NoSuchImage(familiar(reference))
        return found

    def named(self, reference: Reference) -> Digest | None:
        """Return the image that a name means: its digest counts, or else its tag."""
        if reference.digest is not None:
            found = self._rows.digested(reference.repository, reference.digest)
            return found[0] if found else None
        return self._rows.tagged(reference.repository, reference.tag)

    def with_digest(self, repository: str, digest: Digest) -> list[Image]:
        """Return the images that the digest names, the one that it means first."""
        rows = map(self._rows.get, self._rows.digested(repository, digest))
        return [self._with_names(row) for row in rows if row is not None]

    def some_names(self, image_id: Digest) -> tuple[Reference, ...]:
        """Return up to two tags of the image, and one name by digest of up to two repositories."""
        return tuple(_reference(name) for name in self._rows.some_names(image_id))

    def is_tagged(self, image_id: Digest, repository: str) -> bool:
        """Tell whether the image has a tag in `repository`."""
        return self._rows.is_tagged(image_id, repository)

    def exists(self, image_id: Digest) -> bool:
        """Tell whether there is an image of that id."""
        return self._rows.exists(image_id)

    def require(self, image: Image | Digest) -> None:
        """Raise NoSuchImage unless the image exists; unlike `get`, read none of its names."""
        if not self.exists(id_of(image)):
            raise NoSuchImage(id_of(image))

    def all(self) -> list[Image]:
        """Return every image, the newest first."""
        names: dict[Digest, list[NameRow]] = {}
        for name in self._rows.names():
            names.setdefault(name.image, []).append(name)
        return [_image(row, names.get(row.id, ())) for row in self._rows.all()]

    def children(self, image_id: Digest) -> list[Digest]:
        """Return the images whose parent is this one."""
        return self._rows.children(image_id)

    def config(self, image: Image | Digest) -> ImageConfig:
        """Return the image's configuration; raises NotFound, DigestMismatch."""
        return ImageConfig.parse(self._blobs.read(id_of(image)))

    def repo_digests(self, image: Image | Digest, repository: str) -> tuple[Reference, ...]:
        """Return the image's names by digest in `repository` as they are now."""
        digests = self._rows.digests_in(id_of(image), repository)
        return tuple(Reference(repository, None, digest) for digest in digests)

    def with_top(self, top: Digest | None, preferred: Digest) -> Digest | None:
        """Return an image whose last layer is `top`: `preferred`, or else the newest."""
        return self._rows.with_top(top, preferred)

    # -- changing --

    def tag(self, image: Image | Digest, reference: Reference | str) -> Digest | None:
        """Name the image; return the other image that had the name before, if any.

        Raises InvalidReference, and NotFound if the image was removed.
        """
        target = parse_tag_target(reference)
        with self._database.transaction():
            self.require(image)
            before = self.named(target)
            self._rows.tag(id_of(image), target.repository, target.tag)
        return before if before != id_of(image) else None

    def set_parent(self, image_id: Digest, parent: Digest) -> None:
        """Record that the image was made from `parent`."""
        self._rows.set_parent(image_id, parent)

    def untag(self, image_id: Digest, reference: Reference) -> bool:
        """Remove a name of the image, a tag or a digest; tell whether it was there."""
        reference = reference.with_default_tag()
        if reference.digest is not None:
            return self._rows.delete_digest(image_id, reference.repository, reference.digest)
        return self._rows.untag(reference.repository, reference.tag)

    # -- inside --

    def _with_names(self, row: ImageRow) -> Image:
        return _image(row, self._rows.names(row.id))

    def _by_prefix(self, text: str) -> Digest | None:
        found = re.fullmatch(_ID, text)
        if found is None:
            return None
        rows = self._rows.by_prefix(found[1])
        if len(rows) > 1:
            length = max(SHORT, len(found[1]) + 1)
            some = ", ".join(row.encoded[:length] for row in rows)
            raise AmbiguousId(
                f"multiple IDs found with provided prefix: {text} ({some}); give more digits"
            )
        return rows[0] if rows else None

    def _parent(self, image: Image | None) -> Image | None:
        if image is None or image.parent is None:
            return None
        row = self._rows.get(image.parent)
        return None if row is None else self._with_names(row)


def id_of(image: Image | Digest) -> Digest:
    """Return the id of an image, or the id that was given."""
    return image.id if isinstance(image, Image) else image


def _reference(name: NameRow) -> Reference:
    return Reference(name.repository, name.tag, name.digest)


def _image(row: ImageRow, names: Iterable[NameRow]) -> Image:
    references = [_reference(name) for name in names]
    return Image(
        *row,
        tags=tuple(one for one in references if one.digest is None),
        repo_digests=tuple(one for one in references if one.digest is not None),
    )
