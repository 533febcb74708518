"""The marks in a layer: whiteouts, opaque directories and redirects, in every on-disk form.

Decided here and only here: what counts as a whiteout or an opaque directory,
under which names the marks are stored, and how they are written.

- whiteout: character device 0:0; an empty regular file with
  `overlay.whiteout` in a directory marked opaque=x; AUFS's `.wh.NAME`.
- opaque: `overlay.opaque`=y, `user.fuseoverlayfs.opaque`=y, a file
  `.wh..wh..opq` in the directory.
- Every other name that begins with `.wh..wh.` belongs to AUFS and is not an entry.

A whiteout hides the name in the layers beneath.  If its own layer has an entry of the
same name too, that entry is visible.

Source: overlayfs.rst "whiteouts and opaque directories"; image-spec layer.md
"Whiteouts"; fuse-overlayfs(1).
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.errors import fs_error
from unionfs.light_typing import NamedTuple
from unionfs.syscalls import xattr
from unionfs.syscalls.getdents import DOTS, NAME, records, unpack

AUFS_PREFIX = b".wh."
AUFS_META = b".wh..wh."
AUFS_OPAQUE = b".wh..wh..opq"
_DOT = ord(".")

FUSE_OVERLAYFS_PREFIX = "user.fuseoverlayfs."

DT_FIFO, DT_CHR, DT_DIR, DT_BLK, DT_REG, DT_LNK, DT_SOCK = 1, 2, 4, 6, 8, 10, 12
# An entry of these types is no whiteout, except that a file may be one of the xattr form.
_PLAIN = frozenset((DT_FIFO, DT_DIR, DT_BLK, DT_REG, DT_LNK, DT_SOCK))

# A scanned name is one integer, `st_ino << INO_SHIFT | d_type`: a directory of
# 100,000 names is remembered without an object for each.
INO_SHIFT = 4
TYPE_MASK = (1 << INO_SHIFT) - 1


def upper_entry(st: os.stat_result) -> int:
    """Return the packed integer of a name with the attributes `st`."""
    return st.st_ino << INO_SHIFT | st.st_mode >> 12


class Marks:
    """The names of the private attributes of one mount: trusted.overlay.* or user.overlay.*."""

    __slots__ = (
        "_anywhere",
        "escaped",
        "first_origin",
        "impure",
        "metacopy",
        "nlink",
        "opaque",
        "origin",
        "prefix",
        "redirect",
        "whiteout",
    )

    def __init__(self, *, userxattr: bool) -> None:
        self.prefix = "user.overlay." if userxattr else "trusted.overlay."
        self._anywhere = not userxattr
        # An attribute that a user sets under a private name inside the mount is stored
        # one level deeper, so that unions can be nested.  Source: overlayfs.rst
        # "Nesting overlayfs mounts".
        self.escaped = self.prefix + "overlay."
        self.opaque = self.prefix + "opaque"
        self.redirect = self.prefix + "redirect"
        self.metacopy = self.prefix + "metacopy"
        self.origin = self.prefix + "origin"
        # overlayfs does not have this one.  The `origin` of a hard link in the index has to
        # name the lower inode; if that is itself a copy, this mark names its origin.
        self.first_origin = self.prefix + "pyunion.origin"
        self.impure = self.prefix + "impure"
        self.nlink = self.prefix + "nlink"
        self.whiteout = self.prefix + "whiteout"

    def can_carry(self, mode: int) -> bool:
        """Tell whether a file of that `st_mode` can carry a mark.

        Links, fifos, sockets and devices cannot have user.* attributes (xattr(7)).
        """
        return self._anywhere or stat.S_ISREG(mode) or stat.S_ISDIR(mode)


class DirMarks(NamedTuple):
    """The marks on one real directory."""

    opaque: bool = False  # nothing beneath is merged
    xwhiteouts: bool = False  # may hold whiteouts of the xattr form
    impure: bool = False  # may hold copied-up children
    redirect: bytes | None = None
    origin: bytes | None = None


class Scan:
    """The names and whiteouts in one real directory.

    It is `opaque` by an AUFS mark among the names.
    """

    __slots__ = ("names", "opaque", "whiteouts")

    def __init__(self) -> None:
        self.names: dict[bytes, int] = {}
        self.whiteouts: set[bytes] = set()
        self.opaque = False


NO_MARKS = DirMarks()


def read_dir_marks(marks: Marks, fd: int) -> DirMarks:
    """Return the marks on the directory open as `fd`, without looking at its entries."""
    names = xattr.list_fd(fd)
    if not names:
        return NO_MARKS
    opaque = xwhiteouts = impure = False
    redirect = origin = None
    fuse_opaque = FUSE_OVERLAYFS_PREFIX + "opaque"
    for name in names:
        if name == marks.opaque:
            value = xattr.get_fd(fd, name.encode())
            opaque = opaque or value == b"y"
            xwhiteouts = value == b"x"
        elif name == marks.redirect:
            redirect = xattr.get_fd(fd, name.encode())
        elif name == marks.impure:
            impure = True
        elif name == marks.origin:
            origin = xattr.get_fd(fd, name.encode())
        elif name == fuse_opaque:
            opaque = opaque or xattr.get_fd(fd, name.encode()) == b"y"
    return DirMarks(opaque, xwhiteouts, impure, redirect, origin)


def has_aufs_opaque(fd: int) -> bool:
    """Tell whether the directory `fd` has AUFS's mark of an opaque directory."""
    try:
        os.stat(AUFS_OPAQUE, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def has_aufs_whiteout(fd: int, name: bytes) -> bool:
    """Tell whether the directory `fd` has AUFS's whiteout of `name`."""
    try:
        os.stat(AUFS_PREFIX + name, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return False
        raise
    return True


def is_whiteout(st: os.stat_result) -> bool:
    """Tell whether `st` is that of a whiteout of the device form."""
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def is_xattr_whiteout(marks: Marks, dir_fd: int, name: bytes, st: os.stat_result) -> bool:
    """Tell whether `name`, in a directory marked opaque=x, is a whiteout of the xattr form."""
    return (
        stat.S_ISREG(st.st_mode)
        and st.st_size == 0
        and marks.whiteout in xattr.list_at(dir_fd, name)
    )


def scan(
    marks: Marks, fd: int, *, xwhiteouts: bool, ino_shift: int = INO_SHIFT, place: int = 0
) -> Scan:
    """List the directory `fd`, and separate its entries from its whiteouts.

    The integer of each name is `st_ino << ino_shift | place | d_type`.
    No other thread may read from `fd` or from a duplicate of it meanwhile.  Raises the
    `OSError` of reading it.
    """
    found = Scan()
    try:
        _scan_open(marks, fd, found, xwhiteouts, ino_shift, place)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        # It is an O_PATH fd: we may search this directory but not read it.
        raise fs_error(errno.EACCES) from None
    if found.whiteouts:
        # If a layer has a name and a whiteout of it, the name is visible.
        found.whiteouts.difference_update(found.names)
    return found


def _scan_open(
    marks: Marks, fd: int, found: Scan, xwhiteouts: bool, ino_shift: int, place: int
) -> None:
    """Add the names and whiteouts in the directory `fd` to `found`."""
    names = found.names
    plain = _PLAIN - {DT_REG} if xwhiteouts else _PLAIN
    for part in records(fd):
        at, length = 0, len(part)
        # Not `entries`: this is done for each name of a tree.
        while at < length:
            ino, _, size, d_type = unpack(part, at)
            begin = at + NAME
            name = part[begin : part.index(0, begin)]
            at += size
            if part[begin] == _DOT and (name in DOTS or _is_aufs(name, found)):
                continue
            if d_type not in plain:
                try:
                    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if is_whiteout(st) or (xwhiteouts and is_xattr_whiteout(marks, fd, name, st)):
                    found.whiteouts.add(name)
                    continue
                d_type = st.st_mode >> 12
            names[name] = ino << ino_shift | place | d_type


def _is_aufs(name: bytes, found: Scan) -> bool:
    """Tell whether the entry `name` is a mark of AUFS, and add what it says to `found`."""
    if not name.startswith(AUFS_PREFIX):
        return False
    if not name.startswith(AUFS_META):
        found.whiteouts.add(name[len(AUFS_PREFIX) :])
    elif name == AUFS_OPAQUE:
        found.opaque = True
    return True


def make_char_whiteout(dir_fd: int, name: bytes) -> None:
    """Make `name` a whiteout of the device form.

    Raises EPERM if mknod(2) refuses it (a user namespace before Linux 5.8).
    """
    os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=dir_fd)


def make_xattr_whiteout(marks: Marks, dir_fd: int, name: bytes) -> None:
    """Make `name` a whiteout of the xattr form; its directory must be marked opaque=x."""
    # Its owner can write it, because an ordinary user needs that to set the mark.
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
    try:
        os.setxattr(fd, marks.whiteout, b"y")
    finally:
        os.close(fd)


def make_aufs_whiteout(dir_fd: int, name: bytes) -> None:
    """Make the whiteout file of `name`; no error if there is one already.

    Raises ENAMETOOLONG for names over 251 bytes, which cannot have one.
    """
    flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    os.close(os.open(AUFS_PREFIX + name, flags, 0o444, dir_fd=dir_fd))


def remove_aufs_whiteout(dir_fd: int, name: bytes) -> None:
    """Remove the whiteout file of `name`, if there is one."""
    try:
        os.unlink(AUFS_PREFIX + name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise
