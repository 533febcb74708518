"""The limits above which an archive is refused as a bomb.

Decided here and only here: these limits.  They are far above what real images
need, and far below what would fill a machine's memory or keep it busy for days.
"""

from __future__ import annotations

from unionfs.light_typing import NamedTuple

# Layers of one image.  Kernel overlayfs can mount as many (fs/overlayfs/params.h
# OVL_MAX_STACK).  A union takes some more (`unionfs.MAX_LOWERS`), so that a container of such
# an image can be run, mounted and compared with its image.
MAX_LAYERS = 500


class Limits(NamedTuple):
    """The limits of one archive; an archive above one of them raises LimitExceeded.

    `ratio` is that of unpacked to packed bytes, checked from `ratio_from` bytes on.
    Deflate cannot exceed 1,032, which a harmless file of zeros reaches.
    """

    entries: int = 1_000_000  # headers, and paths made; each takes half a kilobyte while unpacking
    names: int = 512 << 20  # bytes of the paths made, all together
    size: int = 256 << 30  # bytes of the unpacked archive, and of all files in it
    header: int = 1 << 20  # bytes of one extended header, long name or sparse map
    documents: int = 128 << 20  # bytes of the configurations and manifests of one archive
    images: int = 10_000  # images of one archive, and names of them
    layers: int = MAX_LAYERS
    ratio: int = 2_000
    ratio_from: int = 256 << 20
    window: int = 128 << 20  # bytes of memory a decompressor may ask for
    scans: int = 100_000_000  # names looked through to replace directories


DEFAULT = Limits()
