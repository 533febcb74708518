"""The origin of a copied-up inode: the file handle of the lower one, and its st_ino in it.

Decided here and only here: the layout of `overlay.origin` (struct ovl_fb of
fs/overlayfs/overlayfs.h), and how to read an inode number from a file handle.
Opening a file by its handle needs a capability, reading the number does not.
"""

from __future__ import annotations

import errno
import struct
import sys

from unionfs.core.layer import Layer
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.handles import handle_at

# u8 version, u8 magic, u8 len, u8 flags, u8 type, 16 bytes uuid, then the fid
_HEAD = struct.Struct("=BBBBB16s")
_VERSION = 0
_MAGIC = 0xFB
_BIG_ENDIAN = 1
_ANY_ENDIAN = 2
_NATIVE = _BIG_ENDIAN if sys.byteorder == "big" else 0

NO_UUID = bytes(16)
_UUID_AT = 5

# Types of linux/exportfs.h and of the filesystems that have their own.
_INO32_GEN = 1
_INO32_GEN_PARENT = 2
_BTRFS = (0x4D, 0x4E, 0x4F)
_XFS_INO64 = (0x81, 0x82)


class Origin(NamedTuple):
    """A parsed origin: which filesystem, and the inode number there."""

    uuid: bytes
    ino: int


def encode_origin(layer: Layer, dir_fd: int, name: bytes) -> bytes | None:
    """Return the origin mark of lower `name` in `layer`; None if it has no file handle."""
    if not layer.has_handles:
        return None
    try:
        kind, fid = handle_at(dir_fd, name)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ENOSYS):
            return None
        raise
    length = _HEAD.size + len(fid)
    if not 0 <= kind <= 255 or length > 255:
        return None
    return _HEAD.pack(_VERSION, _MAGIC, length, _NATIVE, kind, layer.uuid) + fid


def decode_origin(value: bytes) -> Origin | None:
    """Return the content of an origin mark, None if its format is unknown."""
    if len(value) < _HEAD.size:
        return None
    version, magic, length, flags, kind, uuid = _HEAD.unpack_from(value)
    if version != _VERSION or magic != _MAGIC or length != len(value):
        return None
    if not flags & _ANY_ENDIAN and flags & _BIG_ENDIAN != _NATIVE:
        return None
    ino = _ino_in(kind, value[_HEAD.size :])
    return None if ino is None else Origin(uuid, ino)


def _ino_in(kind: int, fid: bytes) -> int | None:
    if kind == _INO32_GEN and len(fid) == 12:  # tmpfs: generation, low and high half
        low, high = struct.unpack_from("=II", fid, 4)
        return int(low) | int(high) << 32
    if kind in (_INO32_GEN, _INO32_GEN_PARENT) and len(fid) >= 8:
        return int(struct.unpack_from("=I", fid)[0])
    if (kind in _BTRFS or kind in _XFS_INO64) and len(fid) >= 8:
        return int(struct.unpack_from("=Q", fid)[0])
    return None


def with_uuid(value: bytes, uuid: bytes) -> bytes:
    """Return the origin mark `value` with the `uuid` of the filesystem in it.

    A mark has zeros for it if it was written where the uuid could not be asked for: by us on
    a kernel before 6.9.
    """
    return value[:_UUID_AT] + uuid + value[_UUID_AT + len(uuid) :]


def lacks_uuid(value: bytes) -> bool:
    """Tell whether the origin mark `value` has zeros for the uuid of the filesystem."""
    return value[_UUID_AT : _HEAD.size] == NO_UUID


def one_uuid(layers: tuple[Layer, ...]) -> bytes:
    """Return the uuid of the filesystem that all of `layers` with file handles are on.

    It is zeros if they are on several, or on one without a uuid.
    """
    uuids = {layer.uuid for layer in layers if layer.has_handles}
    return uuids.pop() if len(uuids) == 1 else NO_UUID


def origin_layer(origin: Origin, lowers: tuple[Layer, ...]) -> Layer | None:
    """Return a lower layer on the filesystem of `origin`; None if that is not certain."""
    able = [layer for layer in lowers if layer.has_handles]
    fsids = {layer.fsid for layer in able if origin.uuid in (layer.uuid, NO_UUID)}
    if len(fsids) != 1:
        return None
    (fsid,) = fsids
    return next(layer for layer in lowers if layer.fsid == fsid)
