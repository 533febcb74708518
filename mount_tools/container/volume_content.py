"""The first content of a volume: what the image has where a container shows it.

Decided here and only here: when an empty volume gets it, and what is copied: the files with
their owners, modes, times, extended attributes and hard links, and those of the directory
itself.  Sockets are left out.  The files are read from the layers, without a mount, and
written beneath a directory in staging; `layerstore.volumes` moves them in.

It is done when the container is created, as in docker, or if that was interrupted, when it is
started.

Threading: one thread.  Source: moby `daemon/create_unix.go`, `container/container_unix.go`
CopyImagePathContent; containerd/continuity `fs/copy.go`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from layerstore.containers.container import Container
from layerstore.diff.union import UnionFiles, open_node
from layerstore.errors import Conflict, StoreError, shown
from layerstore.layer.records import OVERRIDE_PREFIX
from layerstore.store import Store
from layerstore.volumes import ENTRIES, FILLING, VolumeUse
from mount_tools.container.mount_words import Volume
from mount_tools.container.union_path import walk
from unionfs.errors import fs_error
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import chmod_at, utimens_at
from unionfs.syscalls.copyfile import copy_range, try_reflink
from unionfs.syscalls.privilege import is_machine_root
from unionfs.types import Attr, NodeId

_DEEPEST = 400  # directories in each other, each held open
_LONGEST = 4000  # bytes of a path that link(2) takes
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REFUSED = (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP)


def fill_volumes(store: Store, container: Container) -> None:
    """Give the volumes of the container that are empty the image's content for them.

    Raises StoreError, Conflict if the image has a file where a volume is to be mounted.
    """
    uses = store.volumes.uses_of(container.id)
    for use in uses:
        if (store.volumes.directory(use.volume) / FILLING).exists():
            with store.volumes.lock(use.volume) as fd:
                store.volumes.settle(fd)
    todo = [use for use in uses if not use.filled]
    if not todo:
        return
    with UnionFiles(store.containers.trees(container), live=True) as files:
        for use in todo:
            with store.volumes.lock(use.volume) as fd:
                store.volumes.settle(fd)
                _fill(store, files, use, fd)
                store.volumes.filled(container.id, use)


def volumes_to_show(store: Store, container: Container) -> list[Volume]:
    """Return the directories of the container's volumes, filled, with where they are shown."""
    fill_volumes(store, container)
    found = []
    for use in store.volumes.uses_of(container.id):
        source = store.volumes.data(use.volume)
        if not source.is_dir():
            raise StoreError(
                f"the volume {use.volume} has lost its directory; `pyunion check --repair` makes "
                "an empty one"
            )
        found.append(Volume(os.fspath(source), use.target, use.read_only, devices=False))
    return found


def _fill(store: Store, files: UnionFiles, use: VolumeUse, fd: int) -> None:
    """Copy what `files` has at the use's target into the volume open as `fd`, if it is empty."""

    def look(parent: NodeId, name: bytes, last: bool) -> Attr | None:
        return files.fs.lookup(parent, name)

    try:
        found = walk(files.fs, os.fsencode(use.target), look, follow_last=True)
    except NotADirectoryError:
        found = None
    if found is None:
        return
    attr = files.fs.getattr(found)
    if not stat.S_ISDIR(attr.st.st_mode):
        raise Conflict(f"cannot mount volume over existing file, file exists {shown(use.target)}")
    if not store.volumes.is_empty(fd):
        return
    with store.volumes.content() as content:
        try:
            _Copy(files).run(found, content)
        except OSError as error:
            raise StoreError(
                f"the volume {use.volume} cannot get the image's files of {shown(use.target)}: "
                f"{error.strerror}"
            ) from error
        store.volumes.fill(fd, content)


class _Level:
    """A directory that is being copied: its node, the copy, open, and the names left to do."""

    def __init__(self, attr: Attr, fd: int, path: bytes, names: Iterator[bytes]) -> None:
        self.attr = attr
        self.fd = fd
        self.path = path
        self.names = names


class _Copy:
    """A copy of a directory of a union, beneath `entries` of the directory `content`."""

    def __init__(self, files: UnionFiles) -> None:
        self._files = files
        self._may_share = True
        self._privileged = is_machine_root()
        self._links: dict[int, bytes] = {}

    def run(self, nodeid: NodeId, content: Path) -> None:
        """Copy the content of the directory `nodeid`, and give its attributes to `content`."""
        top = os.open(content / ENTRIES, _DIRECTORY)
        levels = [self._level(self._files.fs.getattr(nodeid), top, b"")]
        try:
            while levels:
                level = levels[-1]
                name = next(level.names, None)
                if name is not None:
                    below = self._entry(level, name, top)
                    if below is not None:
                        levels.append(below)
                        if len(levels) > _DEEPEST:
                            raise fs_error(errno.ENAMETOOLONG)
                    continue
                if len(levels) > 1:
                    self._finish(level.fd, level.attr)
                    self._files.release(level.attr)
                    os.close(level.fd)
                levels.pop()
        finally:
            for level in levels[1:]:
                os.close(level.fd)
            os.close(top)
        fd = os.open(content, _DIRECTORY)
        try:
            self._finish(fd, self._files.fs.getattr(nodeid))
        finally:
            os.close(fd)

    def _level(self, attr: Attr, fd: int, path: bytes) -> _Level:
        return _Level(attr, fd, path, iter(self._files.names(attr.nodeid)))

    def _entry(self, level: _Level, name: bytes, top: int) -> _Level | None:
        """Copy one entry; a directory is returned, to be copied next."""
        found = self._files.fs.lookup(level.attr.nodeid, name)
        if found is None:
            return None  # a container removed it meanwhile
        path = level.path + b"/" + name if level.path else name
        if stat.S_ISDIR(found.st.st_mode):
            os.mkdir(name, 0o700, dir_fd=level.fd)
            return self._level(found, os.open(name, _DIRECTORY, dir_fd=level.fd), path)
        try:
            if not self._is_linked(found, level.fd, name, path, top):
                self._put(found, level.fd, name)
        finally:
            self._files.release(found)
        return None

    def _is_linked(self, found: Attr, fd: int, name: bytes, path: bytes, top: int) -> bool:
        """Link a further name of a file that was copied already; tell whether it was."""
        if found.st_nlink < 2 or len(path) > _LONGEST:
            return False
        first = self._links.setdefault(found.st_ino, path)
        if first == path:
            return False
        try:
            os.link(first, name, src_dir_fd=top, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            return False
        return True

    def _put(self, found: Attr, fd: int, name: bytes) -> None:
        kind = stat.S_IFMT(found.st.st_mode)
        if kind == stat.S_IFREG:
            made = os.open(name, _CREATE, 0o600, dir_fd=fd)
            try:
                self._data(found, made)
                self._finish(made, found)
            finally:
                os.close(made)
            return
        if kind == stat.S_IFSOCK:
            return
        if kind == stat.S_IFLNK:
            os.symlink(self._files.fs.readlink(found.nodeid), name, dir_fd=fd)
        else:
            try:
                os.mknod(name, kind | 0o600, found.st.st_rdev, dir_fd=fd)
            except PermissionError:
                if self._privileged or kind == stat.S_IFIFO:
                    raise
                return  # only root of the machine makes devices
        self._own((fd, name), found)
        self._attributes(xattr.at(fd, name), found)
        if kind != stat.S_IFLNK:
            chmod_at(fd, name, stat.S_IMODE(found.st.st_mode))
        utimens_at(fd, name, found.st.st_atime_ns, found.st.st_mtime_ns)

    def _data(self, found: Attr, made: int) -> None:
        source = open_node(self._files.fs, found.nodeid)
        try:
            st = os.fstat(source)
            if not st.st_size:
                return
            self._may_share = self._may_share and try_reflink(source, made)
            if not self._may_share:
                copy_range(source, made, st.st_size, holes=st.st_blocks * 512 < st.st_size)
        finally:
            os.close(source)

    def _finish(self, fd: int, found: Attr) -> None:
        """Give a file or directory that is open as `fd` the attributes of `found`."""
        self._own(fd, found)
        self._attributes(fd, found)
        os.fchmod(fd, stat.S_IMODE(found.st.st_mode))
        utimens_at(fd, None, found.st.st_atime_ns, found.st.st_mtime_ns)

    def _own(self, place: int | tuple[int, bytes], found: Attr) -> None:
        try:
            if isinstance(place, int):
                os.chown(place, found.st_uid, found.st_gid)
            else:
                os.chown(
                    place[1], found.st_uid, found.st_gid, dir_fd=place[0], follow_symlinks=False
                )
        except OSError as error:
            # A user namespace does not have every id.
            if self._privileged or error.errno not in (errno.EPERM, errno.EINVAL):
                raise

    def _attributes(self, place: int | bytes, found: Attr) -> None:
        for name, value in self._files.xattrs(found.nodeid):
            if name.startswith(OVERRIDE_PREFIX):
                continue
            try:
                if isinstance(place, int):
                    os.setxattr(place, name, value)
                else:
                    os.setxattr(place, name, value, follow_symlinks=False)
            except OSError as error:
                unsupported = error.errno == errno.EOPNOTSUPP
                if not unsupported and (self._privileged or error.errno not in _REFUSED):
                    raise
