"""An image in an archive, whatever the format of the archive is."""

from __future__ import annotations

from dataclasses import dataclass

from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import Descriptor, Manifest
from layerstore.oci.reference import Reference


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
