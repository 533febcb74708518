"""An image in an archive, whatever the format of the archive is."""

from __future__ import annotations

from dataclasses import dataclass

from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import Descriptor, HistoryEntry, ImageConfig, Manifest
from layerstore.oci.reference import Reference
from unionfs.light_typing import NamedTuple


@dataclass(frozen=True)
class Packaged:
    """An image in an archive: the files of its parts, and its names.

    `layers` are names of files in the archive, the base first.  `descriptors` and
    `manifest` are set if the archive has an OCI or docker registry manifest, whose digest is
    to be kept.  `parent` is the image from which this one was made, according to the
    archive, which may not have that image.
    """

    config: bytes
    layers: tuple[str, ...]
    names: tuple[Reference, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    manifest: Manifest | None = None
    parent: str = ""

    @property
    def id(self) -> Digest:
        return sha256_digest(self.config)


class Lineage(NamedTuple):
    """The fields that show whether one image was made from another."""

    history: tuple[HistoryEntry, ...]
    layers: int

    @classmethod
    def of(cls, config: ImageConfig) -> Lineage:
        # Times are compared as points in time: docker writes the same one in several ways.
        history = tuple(entry._replace(created=str(entry.created_ns)) for entry in config.history)
        return cls(history, len(config.diff_ids))

    def follows(self, parent: Lineage) -> bool:
        """Tell whether this image was made from `parent` in one step."""
        if not self.history and not parent.history:
            return self.layers > parent.layers  # so that the links form no circle
        return self.history[:-1] == parent.history and len(self.history) > len(parent.history)
