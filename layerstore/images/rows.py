"""The rows of images: their names, and how a name or an id is found.

Names are moved, never copied: a tag names one image, and tagging another
takes it from the first.

Threading: any thread.  Source: moby `daemon/images/image.go` (the order in
which a text is tried as a name and as an id), `image_tag.go`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from layerstore.blobs import BlobStore
from layerstore.db.database import Database, Row, Value
from layerstore.errors import AmbiguousId, NoSuchImage
from layerstore.oci.digest import SHORT, Digest
from layerstore.oci.documents import ImageConfig
from layerstore.oci.reference import Reference, familiar, parse_reference, parse_tag_target

COLUMNS = "id, top, parent, created_ns, size, architecture, os"
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True)
class Image:
    """An image as the store had it when it was read.

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
        self._blobs = blobs

    # -- what there is --

    def get(self, image_id: Digest) -> Image:
        """Return the image of that id; raises NotFound."""
        found = self._read("WHERE id = ?", (image_id,))
        if not found:
            raise NoSuchImage(image_id)
        return found[0]

    def resolve(self, text: str) -> Image:
        """Return the image that `text` names as a reference, or by an id or its beginning.

        Raises NotFound, and InvalidReference where the text is no name at all
        or the beginning of several ids.
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
        found = self._named(reference) or self._by_prefix(text)
        if found is None:
            raise NoSuchImage(familiar(reference))
        return found

    def some_names(self, image_id: Digest) -> tuple[Reference, ...]:
        """Return up to two tags of the image, and one name by digest of up to two repositories."""
        tags = self._database.read(
            "SELECT repository, tag FROM tags WHERE image = ? LIMIT 2", (image_id,)
        )
        digests = self._database.read(
            "SELECT repository, min(digest) FROM repo_digests WHERE image = ?"
            " GROUP BY repository LIMIT 2",
            (image_id,),
        )
        return (
            *(Reference(repository, tag) for repository, tag in tags),
            *(Reference(repository, None, Digest(digest)) for repository, digest in digests),
        )

    def is_tagged(self, image_id: Digest, repository: str) -> bool:
        """Tell whether the image has a tag in `repository`."""
        found = self._database.one(
            "SELECT 1 FROM tags WHERE image = ? AND repository = ?", (image_id, repository)
        )
        return found is not None

    def find(self, reference: Reference) -> Image | None:
        """Return the image with that very name, or None."""
        image_id = self._named(reference.with_default_tag())
        return self.get(image_id) if image_id else None

    def exists(self, image_id: Digest) -> bool:
        """Tell whether there is an image of that id."""
        return self._database.one("SELECT 1 FROM images WHERE id = ?", (image_id,)) is not None

    def require(self, image: Image | Digest) -> None:
        """Raise NoSuchImage unless the image exists; unlike `get`, read none of its names."""
        if not self.exists(id_of(image)):
            raise NoSuchImage(id_of(image))

    def all(self) -> list[Image]:
        """Return every image, the newest first."""
        return self._read("ORDER BY created_ns DESC, added_ns DESC, id")

    def children(self, image_id: Digest) -> list[Digest]:
        """Return the images that were committed from this one."""
        rows = self._database.read("SELECT id FROM images WHERE parent = ?", (image_id,))
        return [Digest(row[0]) for row in rows]

    def config(self, image: Image | Digest) -> ImageConfig:
        """Return the image's configuration; raises NotFound, DigestMismatch."""
        return ImageConfig.parse(self._blobs.read(id_of(image)))

    def tags(self, image: Image | Digest) -> tuple[Reference, ...]:
        """Return the image's tags as they are now."""
        return self.get(id_of(image)).tags

    def repo_digests(self, image: Image | Digest, repository: str) -> tuple[Reference, ...]:
        """Return the image's names by digest in `repository` as they are now."""
        rows = self._database.read(
            "SELECT digest FROM repo_digests WHERE image = ? AND repository = ? ORDER BY digest",
            (id_of(image), repository),
        )
        return tuple(Reference(repository, None, Digest(row[0])) for row in rows)

    # -- what changes --

    def tag(self, image: Image | Digest, reference: Reference | str) -> Digest | None:
        """Name the image; return the other image that had the name until now, if one had.

        Raises InvalidReference, and NotFound where the image went away.
        """
        target = parse_tag_target(reference)
        with self._database.transaction() as tx:
            self.require(image)
            before = self._named(target)
            tx.execute(
                "INSERT INTO tags (repository, tag, image, tagged_ns) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET image = excluded.image, tagged_ns = excluded.tagged_ns",
                (target.repository, target.tag, id_of(image), time.time_ns()),
            )
        return before if before != id_of(image) else None

    def set_parent(self, image_id: Digest, parent: Digest) -> None:
        """Record that the image was made from `parent`."""
        self._database.write("UPDATE images SET parent = ? WHERE id = ?", (parent, image_id))

    def untag(self, reference: Reference) -> bool:
        """Take a name, a tag or one by digest, away; tell whether it was there."""
        reference = reference.with_default_tag()
        if reference.digest is not None:
            return bool(
                self._database.write(
                    "DELETE FROM repo_digests WHERE repository = ? AND digest = ?",
                    (reference.repository, reference.digest),
                )
            )
        return bool(
            self._database.write(
                "DELETE FROM tags WHERE repository = ? AND tag = ?",
                (reference.repository, reference.tag),
            )
        )

    # -- inside --

    def _read(self, rest: str, values: Iterable[Value] = ()) -> list[Image]:
        """Return the images of one query, with all their names."""
        rows = self._database.read(f"SELECT {COLUMNS} FROM images {rest}", tuple(values))
        where, only = ("WHERE image = ?", (rows[0][0],)) if len(rows) == 1 else ("", ())
        tags: dict[str, list[Reference]] = {}
        for image, repository, tag in self._database.read(
            f"SELECT image, repository, tag FROM tags {where} ORDER BY repository, tag", only
        ):
            tags.setdefault(image, []).append(Reference(repository, tag))
        digests: dict[str, list[Reference]] = {}
        for image, repository, digest in self._database.read(
            f"SELECT image, repository, digest FROM repo_digests {where}"
            " ORDER BY repository, digest",
            only,
        ):
            digests.setdefault(image, []).append(Reference(repository, None, Digest(digest)))
        return [_image(row, tags.get(row[0], ()), digests.get(row[0], ())) for row in rows]

    def _named(self, reference: Reference) -> Digest | None:
        if reference.digest is not None:
            row = self._database.one(
                "SELECT image FROM repo_digests WHERE repository = ? AND digest = ?",
                (reference.repository, reference.digest),
            )
        else:
            row = self._database.one(
                "SELECT image FROM tags WHERE repository = ? AND tag = ?",
                (reference.repository, reference.tag),
            )
        return Digest(row[0]) if row else None

    def _by_prefix(self, text: str) -> Digest | None:
        found = _ID.fullmatch(text)
        if found is None:
            return None
        prefix = f"sha256:{found[1]}"
        rows = self._database.read(
            "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 5", (prefix, prefix + "g")
        )
        if len(rows) > 1:
            length = max(SHORT, len(found[1]) + 1)
            some = ", ".join(Digest(row[0]).encoded[:length] for row in rows)
            raise AmbiguousId(
                f"multiple IDs found with provided prefix: {text} ({some}); give more digits"
            )
        return Digest(rows[0][0]) if rows else None

    def _parent(self, image: Image | None) -> Image | None:
        if image is None or image.parent is None:
            return None
        found = self._read("WHERE id = ?", (image.parent,))
        return found[0] if found else None


def id_of(image: Image | Digest) -> Digest:
    """Return the id of an image, or the id that was given."""
    return image.id if isinstance(image, Image) else image


def _image(row: Row, tags: Iterable[Reference], digests: Iterable[Reference]) -> Image:
    image_id, top, parent, created_ns, size, architecture, os = row
    return Image(
        Digest(image_id),
        Digest(top) if top else None,
        Digest(parent) if parent else None,
        created_ns,
        size,
        architecture,
        os,
        tuple(tags),
        tuple(digests),
    )
