"""What layers are kept for, and the archives that are kept with them.

Decided here and only here: what needs a layer by itself: an image, a container or a step of the
build cache that is on top of it, or a lease.  A layer below another one is needed by that.

Threading: any thread.
"""

from __future__ import annotations

from layerstore.db.container_table import ContainerTable
from layerstore.db.foundation import Foundation, Part
from layerstore.db.image_table import ImageTable
from layerstore.db.layer_table import BlobRow, LayerTable
from layerstore.oci.digest import Digest
from layerstore.oci.documents import Descriptor
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.db.build_table import BuildTable


class LayerUses(Part):
    """What the layers of a store are the topmost of."""

    def __init__(self, foundation: Foundation) -> None:
        super().__init__(foundation)
        self._images = ImageTable(foundation.database)
        self._containers = ContainerTable(foundation.database)

    def is_top(self, chain: Digest) -> bool:
        """Tell whether an image, a container or a cached step of a build is on top of the layer."""
        return (
            self._images.is_top(chain)
            or self._containers.is_base(chain)
            or self._builds.is_top(chain)
        )

    def needed(self) -> set[str]:
        """Return the layers that an image, a container or a lease needs by itself.

        In a transaction rows and leases are of the same moment.
        """
        return self._images.tops() | self._containers.bases() | self._leases.kept()

    def tops(self) -> set[str]:
        """Return `needed`, and what the build cache needs."""
        return self.needed() | self._builds.tops()

    def builds(self) -> list[Digest | None]:
        """Return the chain that each step of the build cache led to."""
        return self._builds.chains()

    def forget_builds(self, keep: set[str], until_ns: int | None = None) -> int:
        """Forget the steps of the build cache that led to no layer of `keep`; return how many.

        Those that were done after `until_ns` stay in any case.
        """
        return self._builds.forget(keep, until_ns)

    @property
    def _builds(self) -> BuildTable:
        from layerstore.db.build_table import BuildTable  # few commands need it

        return BuildTable(self._database)


class LayerArchives:
    """The blobs that are tars of layers, as they were pulled or loaded, and kept with them."""

    def __init__(self, rows: LayerTable) -> None:
        self._rows = rows

    def add(self, diff_id: Digest, digest: Digest, media_type: str, size: int) -> None:
        """Record that the blob `digest` is a tar of the layers `diff_id`; `size` is its bytes."""
        self._rows.add_blob(BlobRow(diff_id, digest, media_type, size))

    def of(self, diff_id: Digest) -> list[Descriptor]:
        """Return the blobs that are tars of the layers `diff_id`."""
        rows = self._rows.blobs(diff_id)
        return [Descriptor(row.media_type, row.digest, row.size) for row in rows]

    def has(self, digest: Digest) -> bool:
        """Tell whether the blob is kept as the tar of a layer."""
        return self._rows.names_blob(digest)

    def users(self) -> dict[Digest, Digest]:
        """Return every blob that a layer came from, with the chain_id of such a layer."""
        return self._rows.blob_users()
