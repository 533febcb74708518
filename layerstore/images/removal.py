"""Remove images: which names are removed too, what prevents a removal, and what it frees.

Decided here and only here: docker's rules of `rmi`, with docker's texts.  A conflict is hard
(children, a running container) or soft (other names, a stopped container); force overrides
soft ones.  An image given by a name first loses that name, and is removed itself only if
that was its last name and nothing conflicts; of an image given by its id either everything
is removed or nothing.  `layerstore.layers` decides which layers are freed.

A removal is one transaction of the caller.  Threading: any thread.

Source: moby `daemon/images/image_delete.go`.
"""

from __future__ import annotations

from layerstore.db.container_table import ContainerRow, ContainerTable
from layerstore.db.database import Database
from layerstore.db.image_table import ImageTable
from layerstore.db.leases import Leases
from layerstore.errors import Conflict
from layerstore.images.rows import Image, ImageRows
from layerstore.layers import LayerStore
from layerstore.oci.digest import SHORT, Digest
from layerstore.oci.reference import Reference, familiar, parse_reference
from unionfs.light_typing import Literal, NamedTuple


class Removed(NamedTuple):
    """One line of the report of a removal, as docker prints it."""

    what: Literal["Untagged", "Deleted"]
    text: str


class ImageRemoval:
    """One removal, of one image or many, within one transaction."""

    def __init__(
        self, database: Database, images: ImageRows, layers: LayerStore, leases: Leases
    ) -> None:
        self._database = database
        self._rows = ImageTable(database)
        self._containers = ContainerTable(database)
        self._images = images
        self._layers = layers
        self._leases = leases
        self.done: list[Removed] = []
        self.layers: list[Digest] = []
        self.blobs: list[Digest] = []
        self.freed = 0

    def remove(self, text: str, *, force: bool = False, prune: bool = True) -> None:
        """Remove the image or the name `text`; with `prune` its parents without a name too.

        Raises NotFound, InvalidReference or Conflict; then nothing was removed.
        """
        image_id = self._images.identify(text)
        if _is_id_prefix(image_id, text):
            image = self._images.get(image_id)
            if is_single_reference(image.references):
                self._refuse_conflict(image, hard_only=force, ignore_names=True)
                for reference in image.references:
                    self._untag(image_id, reference)
            self._delete(image_id, force=force, prune=prune, quiet=False)
            return
        # An image may have thousands of names, each removed in turn: do not read them all.
        users = self._users(image_id)
        if users and not force and is_single_reference(self._images.some_names(image_id)):
            raise Conflict(
                f'conflict: unable to remove repository reference "{text}" (must force) - '
                f"container {users[0].id[:SHORT]} is using its referenced image {image_id.short}"
            )
        reference = parse_reference(text).with_default_tag()
        if reference.digest is not None:
            reference = reference._replace(tag=None)
        self._untag(image_id, reference)
        if reference.digest is None:
            self._untag_lone_digests(image_id, reference.repository)
        if not self._images.some_names(image_id):
            self._delete(image_id, force=force, prune=prune, quiet=True)

    def _untag(self, image_id: Digest, reference: Reference) -> None:
        self._images.untag(image_id, reference)
        self.done.append(Removed("Untagged", familiar(reference)))

    def _untag_lone_digests(self, image_id: Digest, repository: str) -> None:
        """Remove the image's digests in `repository` unless it has a tag there."""
        if not self._images.is_tagged(image_id, repository):
            for reference in self._images.repo_digests(image_id, repository):
                self._untag(image_id, reference)

    def _delete(self, image_id: Digest, *, force: bool, prune: bool, quiet: bool) -> None:
        image = self._images.get(image_id)
        conflict = self._conflict(image, hard_only=force)
        if conflict is not None:
            dangling = not image.references and not self._images.children(image_id)
            if quiet and (not dangling or conflict.used):
                return
            raise Conflict(conflict.text)
        for reference in image.references:
            self._untag(image_id, reference)
        with self._database.transaction():
            self._delete_rows(image)
        parent = image.parent
        if prune and parent is not None and self._images.exists(parent):
            self._delete(parent, force=False, prune=True, quiet=True)

    def _delete_rows(self, image: Image) -> None:
        manifests = self._rows.manifests(image.id)
        self.blobs += [image.id, *(manifest.digest for manifest in manifests)]
        self._rows.delete(image.id)
        self._leases.hold("gone", *self.blobs)
        self.done.append(Removed("Deleted", image.id))
        self.free_layers(image.top)

    def free_layers(self, top: Digest | None) -> None:
        """Delete the rows of the chain `top` that nothing needs, the topmost first."""
        freed = self._layers.free(top)
        self.layers += [layer.chain_id for layer in freed.layers]
        self.blobs += freed.blobs
        self.freed += sum(layer.size for layer in freed.layers)
        self.done += [Removed("Deleted", layer.chain_id) for layer in freed.layers]

    def _refuse_conflict(self, image: Image, *, hard_only: bool, ignore_names: bool) -> None:
        conflict = self._conflict(image, hard_only=hard_only, ignore_names=ignore_names)
        if conflict is not None:
            raise Conflict(conflict.text)

    def _conflict(
        self, image: Image, *, hard_only: bool, ignore_names: bool = False
    ) -> _Conflict | None:
        if self._images.children(image.id):
            return _conflict(image, True, False, "image has dependent child images")
        users = self._users(image.id)
        for container in users:
            if container.status == "running":
                text = f"image is being used by running container {container.id[:SHORT]}"
                return _conflict(image, True, True, text)
        if hard_only:
            return None
        if image.references and not ignore_names:
            return _conflict(image, False, False, "image is referenced in multiple repositories")
        if users:
            text = f"image is being used by stopped container {users[0].id[:SHORT]}"
            return _conflict(image, False, True, text)
        return None

    def _users(self, image_id: Digest) -> list[ContainerRow]:
        return self._containers.of_image(image_id)


class _Conflict(NamedTuple):
    text: str
    used: bool  # by a container


def _conflict(image: Image, hard: bool, used: bool, why: str) -> _Conflict:
    how = "cannot be forced" if hard else "must be forced"
    return _Conflict(f"conflict: unable to delete {image.id.short} ({how}) - {why}", used)


def is_single_reference(references: tuple[Reference, ...]) -> bool:
    """Tell whether all names are in one repository, and at most one is a tag."""
    if len(references) <= 1:
        return len(references) == 1
    tags = [reference for reference in references if reference.digest is None]
    by_digest = {reference.repository for reference in references if reference.digest is not None}
    if len(tags) > 1:
        return False
    single = tags[0] if tags else references[0]
    return by_digest == {single.repository}


def _is_id_prefix(image_id: Digest, text: str) -> bool:
    return image_id.startswith(text) or image_id.encoded.startswith(text)
