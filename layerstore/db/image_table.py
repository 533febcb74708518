"""The tables `images`, `tags`, `repo_digests` and `manifests`.

Decided here and only here: the SQL on them.  What a row means is
`layerstore.db.schema`'s to say, how a name is understood `layerstore.images.rows`'.

Threading: any thread.
"""

from __future__ import annotations

import time

from layerstore.db.database import Database, Value
from layerstore.oci.digest import Digest
from unionfs.light_typing import NamedTuple


class ImageRow(NamedTuple):
    """An image as it is stored; times are ns since 1970, `size` is in bytes."""

    id: Digest
    top: Digest | None
    parent: Digest | None
    created_ns: int
    size: int
    architecture: str
    os: str


class NameRow(NamedTuple):
    """A name of an image: a repository, and either a tag or the digest of a manifest."""

    image: Digest
    repository: str
    tag: str | None = None
    digest: Digest | None = None


class ManifestRow(NamedTuple):
    """A manifest that is kept of an image, or an index that it was chosen from."""

    digest: Digest
    image: Digest
    media_type: str


_COLUMNS = ", ".join(ImageRow._fields)
_SELECT = f"SELECT {_COLUMNS} FROM images"


class ImageTable:
    """The images of a store, their names and manifests, as rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- images --

    def get(self, image_id: Digest) -> ImageRow | None:
        """Return the image of that id."""
        rows = self._select("WHERE id = ?", image_id)
        return rows[0] if rows else None

    def all(self) -> list[ImageRow]:
        """Return every image, the newest first."""
        return self._select("ORDER BY created_ns DESC, added_ns DESC, id")

    def ids(self) -> list[Digest]:
        """Return the id of every image."""
        return self._database.select(Digest, "SELECT id FROM images")

    def exists(self, image_id: Digest) -> bool:
        """Tell whether there is an image of that id."""
        return self._database.has("images", "id = ?", image_id)

    def by_prefix(self, digits: str) -> list[Digest]:
        """Return up to five images whose ids begin with these hexadecimal digits."""
        prefix = f"sha256:{digits}"
        return self._database.select(
            Digest, "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 5", (prefix, prefix + "g")
        )

    def children(self, image_id: Digest) -> list[Digest]:
        """Return the images whose parent is this one."""
        return self._database.select(Digest, "SELECT id FROM images WHERE parent = ?", (image_id,))

    def tops(self) -> set[Digest]:
        """Return the layers that are the last of an image."""
        return set(self._database.select(Digest, "SELECT top FROM images WHERE top IS NOT NULL"))

    def is_top(self, chain: Digest) -> bool:
        """Tell whether the layer is the last of an image."""
        return self._database.has("images", "top = ?", chain)

    def with_top(self, top: Digest | None, preferred: Digest) -> Digest | None:
        """Return an image whose last layer is `top`: `preferred`, or else the newest."""
        return self._database.first(
            Digest,
            "SELECT id FROM images WHERE top IS ? ORDER BY id = ? DESC, added_ns DESC LIMIT 1",
            (top, preferred),
        )

    def add(self, row: ImageRow) -> None:
        """Add an image; one that is there stays as it is."""
        self._database.write(
            f"INSERT INTO images ({_COLUMNS}, added_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING",
            (*row, time.time_ns()),
        )

    def set_parent(self, image_id: Digest, parent: Digest) -> None:
        """Record that the image was made from `parent`."""
        self._database.write("UPDATE images SET parent = ? WHERE id = ?", (parent, image_id))

    def delete(self, image_id: Digest) -> None:
        """Delete an image that has no name left, and its manifests."""
        self._database.write("DELETE FROM images WHERE id = ?", (image_id,))

    # -- names --

    def names(self, image_id: Digest | None = None) -> list[NameRow]:
        """Return the names of an image, or of all: the tags sorted, then the digests sorted."""
        where: str = "" if image_id is None else "WHERE image = ?"
        values: tuple[Value, ...] = () if image_id is None else (image_id,)
        tags = self._database.select(
            _tag_name,
            f"SELECT image, repository, tag FROM tags {where} ORDER BY repository, tag",
            values,
        )
        digests = self._database.select(
            _digest_name,
            f"SELECT image, repository, digest FROM repo_digests {where}"
            " ORDER BY repository, digest",
            values,
        )
        return tags + digests

    def some_names(self, image_id: Digest) -> list[NameRow]:
        """Return up to two tags of the image, and a digest in up to two repositories."""
        tags = self._database.select(
            _tag_name,
            "SELECT image, repository, tag FROM tags WHERE image = ? LIMIT 2",
            (image_id,),
        )
        digests = self._database.select(
            _digest_name,
            "SELECT image, repository, min(digest) FROM repo_digests WHERE image = ?"
            " GROUP BY repository LIMIT 2",
            (image_id,),
        )
        return tags + digests

    def digests_in(self, image_id: Digest, repository: str) -> list[Digest]:
        """Return the digests that name the image in `repository`, sorted."""
        return self._database.select(
            Digest,
            "SELECT digest FROM repo_digests WHERE image = ? AND repository = ? ORDER BY digest",
            (image_id, repository),
        )

    def is_tagged(self, image_id: Digest, repository: str) -> bool:
        """Tell whether the image has a tag in `repository`."""
        return self._database.has("tags", "image = ? AND repository = ?", image_id, repository)

    def tagged(self, repository: str, tag: str | None) -> Digest | None:
        """Return the image that the tag names."""
        return self._database.first(
            Digest, "SELECT image FROM tags WHERE repository = ? AND tag = ?", (repository, tag)
        )

    def digested(self, repository: str, digest: Digest) -> list[Digest]:
        """Return the images that the digest names in `repository`, the one named last first."""
        return self._database.select(
            Digest,
            "SELECT image FROM repo_digests WHERE repository = ? AND digest = ?"
            " ORDER BY named_ns DESC, image",
            (repository, digest),
        )

    def last_tagged_ns(self, image_id: Digest) -> int | None:
        """Return when the image last got a tag that it still has."""
        sql = "SELECT max(tagged_ns) FROM tags WHERE image = ?"
        return self._database.first(lambda last: last and int(last), sql, (image_id,))

    def tag(self, image_id: Digest, repository: str, tag: str | None) -> None:
        """Let the tag name this image, and no other."""
        self._database.write(
            "INSERT INTO tags (repository, tag, image, tagged_ns) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET image = excluded.image, tagged_ns = excluded.tagged_ns",
            (repository, tag, image_id, time.time_ns()),
        )

    def untag(self, repository: str, tag: str | None) -> bool:
        """Delete a tag; tell whether it was there."""
        sql = "DELETE FROM tags WHERE repository = ? AND tag = ?"
        return bool(self._database.write(sql, (repository, tag)))

    def add_digest(self, image_id: Digest, repository: str, digest: Digest) -> None:
        """Let the digest of a manifest or an index mean this image in `repository` from now on."""
        self._database.write(
            "INSERT INTO repo_digests (repository, digest, image, named_ns) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET named_ns = excluded.named_ns",
            (repository, digest, image_id, time.time_ns()),
        )

    def delete_digest(self, image_id: Digest, repository: str, digest: Digest) -> bool:
        """Delete a name by digest of the image; tell whether it was there."""
        sql = "DELETE FROM repo_digests WHERE repository = ? AND digest = ? AND image = ?"
        return bool(self._database.write(sql, (repository, digest, image_id)))

    # -- manifests --

    def manifests(self, image_id: Digest | None = None) -> list[ManifestRow]:
        """Return the manifests kept of an image, or of all."""
        where: str = "" if image_id is None else "WHERE image = ?"
        values: tuple[Value, ...] = () if image_id is None else (image_id,)
        return self._database.select(
            lambda digest, image, kind: ManifestRow(Digest(digest), Digest(image), kind),
            f"SELECT digest, image, media_type FROM manifests {where} ORDER BY digest",
            values,
        )

    def add_manifest(self, row: ManifestRow) -> None:
        """Keep a manifest of an image, or an index that several images may come from."""
        self._database.write(
            "INSERT INTO manifests (digest, image, media_type) VALUES (?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            row,
        )

    def delete_manifest(self, digest: Digest) -> None:
        """Delete the row of a manifest."""
        self._database.write("DELETE FROM manifests WHERE digest = ?", (digest,))

    def names_blob(self, digest: Digest) -> bool:
        """Tell whether the blob is an image's configuration or manifest."""
        return self.exists(digest) or self._database.has("manifests", "digest = ?", digest)

    def _select(self, rest: str, *values: Value) -> list[ImageRow]:
        return self._database.select(
            lambda image, top, parent, *others: ImageRow(
                Digest(image), top and Digest(top), parent and Digest(parent), *others
            ),
            f"{_SELECT} {rest}",
            values,
        )


def _tag_name(image: str, repository: str, tag: str) -> NameRow:
    return NameRow(Digest(image), repository, tag=tag)


def _digest_name(image: str, repository: str, digest: str) -> NameRow:
    return NameRow(Digest(image), repository, digest=Digest(digest))
