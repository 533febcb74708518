"""Redirects: where the lower part of a moved directory is, or the data of a metacopy.

Decided here and only here: how a path is followed down the stack of lowers.
In each layer it is walked from the root.  A redirect on the way changes the
path for the layers beneath.  An opaque directory, or anything that is not a
directory, ends the search, unless an absolute redirect further along the path restarts it.

Source: overlayfs.rst "renaming directories", "Metadata only copy up";
fs/overlayfs/namei.c:ovl_lookup(), ovl_lookup_layer(), ovl_check_redirect().
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.core.inode import Dir, Node
from unionfs.core.layer import Layer, RealDir
from unionfs.core.whiteout import (
    DirMarks,
    Marks,
    has_aufs_opaque,
    has_aufs_whiteout,
    is_whiteout,
    is_xattr_whiteout,
    read_dir_marks,
)
from unionfs.errors import fs_error
from unionfs.light_logging import Logger
from unionfs.syscalls import xattr

log = Logger(__name__)

MAX_REDIRECT = 1024


class _Step:
    """What the walk found in one layer, and how the search continues beneath it."""

    __slots__ = ("name", "parent", "st", "stop")

    def __init__(self) -> None:
        self.parent: RealDir | None = None
        self.name = b""
        self.st: os.stat_result | None = None
        self.stop = False


def split_redirect(value: bytes) -> tuple[bool, list[bytes]]:
    """Return whether a redirect is absolute, and its names.

    Raises EIO for a redirect that no union writes: an empty one, a relative one of more
    than one name, or one with `.`, `..` or nothing between slashes.
    """
    value = value.rstrip(b"\0")
    absolute = value.startswith(b"/")
    names = value[1:].split(b"/") if absolute else [value]
    if any(name in (b"", b".", b"..") or b"/" in name or b"\0" in name for name in names):
        log.error("the mark overlay.redirect has the invalid value %r", value)
        raise fs_error(errno.EIO)
    return absolute, names


def marks_of(marks: Marks, real: RealDir) -> DirMarks:
    """Return the marks on a lower directory, which decide what is merged beneath it."""
    fd = real.fd()
    found = own_marks(marks, real, fd)
    if not found.opaque and not real.layer.bottom and has_aufs_opaque(fd):
        return found._replace(opaque=True)
    return found


def own_marks(marks: Marks, real: RealDir, fd: int) -> DirMarks:
    """Return the marks in the attributes of a lower directory, open as `fd`, and note them."""
    found = read_dir_marks(marks, fd)
    real.xwhiteouts, real.impure = found.xwhiteouts, found.impure
    return found


def follow_dir(
    marks: Marks, layers: tuple[Layer, ...], names: list[bytes], *, redirects: bool
) -> list[RealDir]:
    """Return the directories at `names` from the roots of `layers`, topmost first."""
    stack: list[RealDir] = []
    for layer in layers:
        step, names = _walk(marks, layer, names, redirects=redirects, want_dir=True)
        if step.parent is not None:
            real = RealDir(layer, step.parent, step.name)
            marks_of(marks, real)
            stack.append(real)
        if step.stop:
            break
    return stack


def follow_beneath(
    marks: Marks, layers: tuple[Layer, ...], parents: tuple[RealDir, ...], name: bytes
) -> list[RealDir]:
    """Return the directories `name` in `parents`, which are merged directories of `layers`.

    This follows a relative redirect.  What the directory with it hides is not in `parents`.
    """
    stack: list[RealDir] = []
    for parent in parents:
        fd = parent.fd()
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            if has_aufs_whiteout(fd, name):
                break
            continue
        if not stat.S_ISDIR(st.st_mode):
            break  # a whiteout, or a file, which hides everything beneath it
        real = RealDir(parent.layer, parent, name)
        stack.append(real)
        found = marks_of(marks, real)
        if found.opaque:
            break
        if found.redirect is not None:
            absolute, parts = split_redirect(found.redirect)
            if absolute:
                below = layers[real.layer.number + 1 :]
                return stack + follow_dir(marks, below, parts, redirects=True)
            name = parts[0]
    return stack


def follow_file(
    marks: Marks,
    layers: tuple[Layer, ...],
    data: tuple[Layer, ...],
    names: list[bytes],
) -> tuple[RealDir, bytes] | None:
    """Return the place of the data that an absolute redirect says is at `names`.

    That is the first regular file that is not a metacopy, if need be in the data-only layers
    `data`.
    """
    for layer in layers:
        step, names = _walk(marks, layer, names, redirects=True, want_dir=False)
        if step.parent is not None:
            place = step.parent, step.name
            dir_fd = step.parent.fd()
            present = xattr.list_at(dir_fd, step.name)
            if marks.metacopy not in present:
                return place
            if marks.redirect in present:
                value = xattr.get_at(dir_fd, step.name, marks.redirect.encode())
                rooted, parts = split_redirect(value or b"")
                names = parts if rooted else [*names[:-1], *parts]
        elif step.stop:
            break
    for layer in data:
        found = plain_file(layer, names)
        if found is not None:
            return found
    return None


def plain_file(layer: Layer, names: list[bytes]) -> tuple[RealDir, bytes] | None:
    """Return the regular file at `names` of a data-only layer, whose marks are ignored."""
    real = layer.root
    for name in names[:-1]:
        real = RealDir(layer, real, name)
    try:
        st = os.stat(names[-1], dir_fd=real.fd(), follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    return (real, names[-1]) if stat.S_ISREG(st.st_mode) else None


def _walk(
    marks: Marks, layer: Layer, names: list[bytes], *, redirects: bool, want_dir: bool
) -> tuple[_Step, list[bytes]]:
    """Walk `names` from the root of `layer`; return what is there and the names beneath it."""
    step = _Step()
    onward = list(names)
    real = layer.root
    last = len(names) - 1
    for position, name in enumerate(names):
        fd = real.fd()
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            step.stop = step.stop or has_aufs_whiteout(fd, name)
            return step, onward
        if is_whiteout(st) or (real.xwhiteouts and is_xattr_whiteout(marks, fd, name, st)):
            step.stop = True
            return step, onward
        if not stat.S_ISDIR(st.st_mode):
            if want_dir or position < last or not stat.S_ISREG(st.st_mode):
                step.stop = True
                return step, onward
            step.parent, step.name, step.st = real, name, st
            return step, onward
        if not want_dir and position == last:
            step.stop = True
            return step, onward
        child = RealDir(layer, real, name)
        found = marks_of(marks, child)
        if found.opaque:
            step.stop = True
        elif found.redirect is not None and redirects:
            absolute, parts = split_redirect(found.redirect)
            at = len(onward) - (len(names) - position)
            if absolute:
                step.stop = False
                onward = parts + onward[at + 1 :]
            else:
                onward = onward[:at] + parts + onward[at + 1 :]
        if position == last:
            step.parent, step.name, step.st = real, name, st
        real = child
    return step, onward


def lower_names(node: Node) -> list[bytes]:
    """Return the path of `node` in the merged lowers.

    It is the path in the mount, except that a moved directory is still where its
    redirect says.
    """
    names: list[bytes] = []
    at = node
    while at.parent is not at:
        redirect = at.redirect if isinstance(at, Dir) else None
        if redirect is None:
            names.append(at.name)
        else:
            absolute, parts = split_redirect(redirect)
            names += reversed(parts)
            if absolute:
                break
        at = at.parent
    names.reverse()
    return names
