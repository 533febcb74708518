"""Owner, mode and type of a file in an attribute of it, where the daemon cannot give files away.

Decided here and only here: which layers have the attribute, and what the real files are
like: they belong to the daemon, and have the mode of the upper's root.  A file that is
neither a directory nor a link is made as a regular file.  Symbolic links have no such
attribute.

The root directory of a layer tells whether its files have the attribute, and under which name.

Source: fuse-overlayfs main.c:main(), direct.c:direct_load_data_source(); containers/storage
pkg/archive/archive.go:createTarFile().
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext

from unionfs.core.config import OverrideStat, UnionConfig
from unionfs.core.inode import Dir, File, Node
from unionfs.core.layer import Layer
from unionfs.core.override_format import (
    CONTAINERS,
    ENCODED_PREFIX,
    LEGACY,
    PRIVILEGED,
    Override,
)
from unionfs.core.owner_rights import Place
from unionfs.core.owners import Owners, Stored
from unionfs.errors import ConfigError
from unionfs.light_logging import Logger
from unionfs.syscalls import xattr

log = Logger(__name__)

ENCODED_CAPABILITY = ENCODED_PREFIX + b"security.capability"


def decode(value: bytes, real_mode: int) -> Override:
    """Return what `value` says of a file or directory whose own st_mode is `real_mode`.

    Raises EIO for a value that cannot be understood, or that makes a directory of a file.
    """
    found = Override.decode(value)
    own = stat.S_IFMT(real_mode)
    if found is not None:
        kind = stat.S_IFMT(found.mode) or own
        if kind == own or (own == stat.S_IFREG and kind not in (stat.S_IFDIR, stat.S_IFLNK)):
            return found._replace(mode=kind | stat.S_IMODE(found.mode))
    raise OSError(errno.EIO, f"the attribute {value[:64]!r} says nothing about this file")


class Overrides(Owners):
    """The owners of a union whose layers have them in attributes.

    `real_mode` are the permission bits of every real file and directory in the upper.
    """

    in_attributes = True

    def __init__(self, config: UnionConfig) -> None:
        super().__init__(config)
        self._asked = config.override
        # Of the lowers at the start; all other layers were once the upper.
        self._names: dict[Layer, bytes | None] = {}
        self._upper_name = PRIVILEGED if self._asked is OverrideStat.PRIVILEGED else CONTAINERS
        self.real_mode = 0o700

    def adopt(self, lowers: tuple[Layer, ...], upper: Layer | None) -> None:
        """Read which of the layers have the attribute; give it to the root of a new upper.

        Raises `ConfigError` if it cannot be written.
        """
        values = []
        for layer in lowers:
            fd = layer.root.fd()
            self._names[layer] = None
            for name in self._readable():
                value = xattr.get_fd(fd, name)
                if value is not None:
                    self._names[layer] = name
                    values.append(value)
                    break
        if upper is None:
            return
        fd = upper.root.fd()
        st = os.stat(fd)
        self.real_mode = 0o700 | st.st_mode & 0o077
        if self._upper_name == CONTAINERS and xattr.get_fd(fd, LEGACY) is not None:
            self._upper_name = LEGACY
        if xattr.get_fd(fd, self._upper_name) is not None:
            return
        # The mode of the real root is for the store; who may look into the mount is another matter.
        own = Override(st.st_uid, st.st_gid, st.st_mode | 0o555).encode()
        try:
            os.setxattr(fd, self._upper_name, values[0] if values else own)
        except OSError as error:
            hint = ": use xattr_permissions=2" if self._upper_name == PRIVILEGED else ""
            raise ConfigError(
                f"the upperdir {os.fsdecode(upper.path)} cannot store the attribute "
                f"{self._upper_name.decode()} ({error.strerror}){hint}"
            ) from None

    def _readable(self) -> tuple[bytes, ...]:
        if self._asked is OverrideStat.PRIVILEGED:
            return (PRIVILEGED,)
        return (CONTAINERS, LEGACY)

    def name_in(self, layer: Layer) -> bytes | None:
        """Return the name of the attribute in `layer`, None if its files do not have it."""
        return self._names.get(layer, self._upper_name)

    def encodes(self, name: bytes) -> bool:
        """Tell whether the upper stores the attribute `name` of a user under another name."""
        return self._upper_name == CONTAINERS and name.startswith(b"security.")

    def read(self, layer: Layer, place: Place, st: os.stat_result) -> Override | None:
        """Return what is stored of the file at `place`, None if that is its own stat `st`.

        Raises EIO for a value that cannot be understood.
        """
        name = self.name_in(layer)
        if name is None or not can_carry(st.st_mode):
            return None
        fd, entry = place
        value = xattr.get_fd(fd, name) if entry is None else xattr.get_at(fd, entry, name)
        return None if value is None else decode(value, st.st_mode)

    def write(self, place: Place, override: Override) -> None:
        """Store `override` on a file or directory of the upper."""
        fd, entry = place
        value = override.encode()
        if entry is None:
            try:
                os.setxattr(fd, self._upper_name, value)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                os.setxattr(b"/proc/self/fd/%d" % fd, self._upper_name, value)  # an O_PATH fd
        else:
            os.setxattr(xattr.at(fd, entry), self._upper_name, value, follow_symlinks=False)

    # -- what Owners says, of real files that all belong to the daemon --

    def stored(self, layer: Layer, source: Place, st: os.stat_result) -> Stored:
        if not can_carry(st.st_mode):
            return Stored(-1, -1, stat.S_IMODE(st.st_mode))
        override = self.read(layer, source, st)
        if override is None:
            plain = super().stored(layer, source, st)
            override = Override(plain.uid, plain.gid, st.st_mode)
        marks = {self._upper_name.decode(): override.encode()}
        return Stored(-1, -1, self.real_mode, marks)

    def gives_to(self, uid: int, gid: int) -> bool:
        return False

    def creating(self, uid: int, gid: int) -> nullcontext[None]:
        return nullcontext()


def can_carry(mode: int) -> bool:
    """Tell whether a real file of that st_mode can have the attribute."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def is_hidden(name: bytes) -> bool:
    """Tell whether users neither see nor set the attribute `name`."""
    return name.startswith(ENCODED_PREFIX) or name in (LEGACY, PRIVILEGED)


def shown_names(names: list[bytes]) -> Iterator[bytes]:
    """Yield the names that users see for the attributes `names`, each once."""
    seen = set()
    for name in names:
        if name.startswith(ENCODED_PREFIX + b"security."):
            name = name[len(ENCODED_PREFIX) :]
        elif is_hidden(name):
            continue
        if name not in seen:
            seen.add(name)
            yield name


def layer_of(node: Node) -> Layer:
    """Return the layer that has the attributes of `node`."""
    if isinstance(node, Dir):
        return node.top().layer
    assert isinstance(node, File)
    return node.real.layer
