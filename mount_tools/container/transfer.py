"""Copying files into and out of a container, as `pyunion cp` does.

Decided here and only here: where a copy goes, by docker's rules, and that whatever is in
the container is reached beneath its root, links followed within it: a container that swaps
a directory for a link meanwhile leads nowhere else (CVE-2018-15664, CVE-2019-14271).  A copy on
this machine belongs to the user, so it gives nobody the rights of the file in the container: it
has no set-user-ID and set-group-ID bits and no capabilities, and a device is the user's alone.

Both sides speak tar: a source is written as one, and a destination unpacks one.

Source: docker/cli `cli/command/container/cp.go`; moby `pkg/archive/copy.go`.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from layerstore.build.adding import unpack_tree
from layerstore.build.copying import Copier
from layerstore.build.destination import Destination
from layerstore.build.owner import ModeChange, Owner
from layerstore.build.tree import Tree, TreeEntry
from layerstore.containers import control_client
from layerstore.containers.container import Container, socket_path
from layerstore.containers.control_client import NoMount
from layerstore.errors import StoreError, shown
from layerstore.layer.metadata import Metadata
from layerstore.store import Store
from mount_tools.container.entrance import (
    check_still,
    first_process,
    wait_until_entered,
    way_into,
)
from mount_tools.container.silent_keeper import refuse_stopped
from mount_tools.container.stopped_mounts import root_with_volumes
from mount_tools.container.temporary_mount import may_mount, temporary_mount
from mount_tools.container.user_namespace import read_all
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls import xattr
from unionfs.syscalls.openat2 import open_in_root
from unionfs.syscalls.privilege import is_machine_root
from unionfs.types import NS

if TYPE_CHECKING:
    from typing import IO

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20


class End(NamedTuple):
    """One end of a copy: a path in the tree whose root is open as `root_fd`.

    `place` says for messages where the tree is, as "in container box".  `on_host`
    says that it is this machine's.
    """

    root_fd: int
    path: str
    place: str
    on_host: bool = False


@contextmanager
def root_of(store: Store, container: Container, path: str | None = None) -> Iterator[int]:
    """Yield the root of a container, open; one that does not run is mounted meanwhile.

    With a `path` that the caller goes to, its volumes are shown in it too, as in one that
    runs.  One that is being started is waited for.  Raises StoreError.
    """
    if container.init is not None:
        wait_until_entered(container)
        read_all(container)
        fd = os.open(f"{way_into(first_process(container))}/root", _DIRECTORY)
        try:
            check_still(first_process(container))
            yield fd
        finally:
            os.close(fd)
        return
    if may_mount(container):
        with (
            temporary_mount(store, container) as mounted,
            _mounted_root(store, mounted, path) as fd,
        ):
            yield fd
        return
    with _mounted_root(store, container, path) as fd:
        yield fd


@contextmanager
def _mounted_root(store: Store, container: Container, path: str | None) -> Iterator[int]:
    """Yield the root of a container that is mounted, or was started meanwhile, open."""
    point = container.mount_point
    if point is None:
        with root_of(store, container, path) as fd:
            yield fd
        return
    refuse_stopped(container)
    with suppress(NoMount):  # what is there now is looked at below
        control_client.writing(socket_path(container.directory))  # Busy if it hangs
    fd = os.open(point, _DIRECTORY)
    try:
        _check_mount(container, fd, point)
        if path is not None and may_mount(container):
            with root_with_volumes(store, container, point, path) as whole:
                yield whole
        else:
            yield fd
    finally:
        os.close(fd)


def _check_mount(container: Container, fd: int, point: str) -> None:
    """Raise StoreError unless `fd`, opened at `point`, is the root of the container's mount.

    The user of a directory above the mount point may have renamed it, and have put a link to
    the root of this machine in its place.
    """
    upper = os.fsencode(container.upper)
    stack = xattr.get_fd(fd, b"user.pyunion.stack") or b""
    if upper not in stack.split(b"\n"):
        raise StoreError(
            f"container {container.name} is not mounted on {shown(point)} here: a directory above "
            "was renamed, or that is in another mount namespace; unmount it there"
        )


@contextmanager
def root_of_the_host() -> Iterator[int]:
    """Yield the root of this machine's files, open."""
    fd = os.open("/", _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


class _Found(NamedTuple):
    """A source: `path` in its tree without links, but for the last component."""

    path: str
    st: os.stat_result
    name: str
    """The name it has in the archive; "" for the content of a directory."""


def copy(source: End, target: End, *, follow: bool, keep_owners: bool) -> None:
    """Copy what is at `source` to `target`.

    With `follow` a link at `source` is followed.  Without `keep_owners` the copies belong to
    the user: root in a container, and us on this machine, where they lose their set-user-ID bits
    and the like.  Raises StoreError.
    """
    plain = target.on_host and not keep_owners
    found = _find(source, follow=follow)
    fd, name = _place(target, found)
    try:
        reading, writing = os.pipe()
        writer = _Writer(source, found._replace(name=name), writing, capabilities=not plain)
        # Closed before the writer is waited for: it may have more to write than a pipe takes.
        with writer, open(reading, "rb", buffering=0) as archive:
            try:
                _unpack(archive, fd, keep_owners=keep_owners, mode=_plain_mode if plain else None)
            except StoreError:
                archive.close()
                writer.join()
                if writer.error is None:
                    raise
        if writer.error is not None:
            raise writer.error  # the archive was cut short for it
    finally:
        os.close(fd)


def write_archive(source: End, out: IO[bytes], *, follow: bool) -> None:
    """Write what is at `source` to `out` as a tar.  Raises StoreError."""
    _write(source, _find(source, follow=follow), out)


def unpack_archive(archive: IO[bytes], target: End, *, keep_owners: bool) -> None:
    """Unpack a tar into the directory `target`.  Raises StoreError."""
    fd = _open_directory(target, target.path)
    try:
        _unpack(archive, fd, keep_owners=keep_owners)
    finally:
        os.close(fd)


def _find(source: End, *, follow: bool) -> _Found:
    path, content = source.path, False
    if path.endswith("/.") or path in (".", "/"):
        content = True
    must_be_directory = content or path.endswith("/")
    tree = Tree(source.root_fd, owners=True)
    found = tree.find(path)
    plain = posixpath.normpath(path).lstrip("/")
    name = posixpath.basename(plain)
    if not follow and not must_be_directory and name:
        above = tree.find(posixpath.dirname(plain))
        if above is not None:
            with suppress(OSError):
                parent = tree.open_parent(above.path)
                try:
                    st = os.stat(name, dir_fd=parent, follow_symlinks=False)
                finally:
                    os.close(parent)
                return _Found(posixpath.join(above.path, name), st, name)
    if found is None:
        raise StoreError(f"Could not find the file {shown(path)} {source.place}")
    return _Found(found.path, found.st, "" if content else name)


def _place(target: End, found: _Found) -> tuple[int, str]:
    """Return the directory that the copy goes into, open, and the name it has there.

    The name is "" where the content of a directory goes into a directory.
    """
    is_directory = stat.S_ISDIR(found.st.st_mode)
    tree = Tree(target.root_fd)
    there = tree.find(target.path)
    if there is not None and stat.S_ISDIR(there.st.st_mode):
        fd = _open_directory(target, there.path)
        try:
            _refuse_other_kind(fd, found.name, is_directory=is_directory)
        except BaseException:
            os.close(fd)
            raise
        return fd, found.name
    if there is not None:
        if is_directory:
            raise StoreError(
                f"{shown(target.path)} {target.place} is no directory; a directory cannot "
                "take its place"
            )
        return _open_directory(target, posixpath.dirname(there.path)), posixpath.basename(
            there.path
        )
    plain = posixpath.normpath(target.path)
    if target.path.endswith("/") and not is_directory:
        raise StoreError(f"there is no directory {shown(target.path)} {target.place}: make it")
    return _open_directory(target, posixpath.dirname(plain)), posixpath.basename(plain)


def _refuse_other_kind(fd: int, name: str, *, is_directory: bool) -> None:
    if not name:
        return
    with suppress(FileNotFoundError):
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(st.st_mode) != is_directory and (is_directory or stat.S_ISDIR(st.st_mode)):
            kinds = ("directory", "file") if is_directory else ("file", "directory")
            raise StoreError(
                f"a {kinds[1]} {shown(name)} is there, and a {kinds[0]} cannot take its place"
            )


def _open_directory(end: End, path: str) -> int:
    try:
        return open_in_root(end.root_fd, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(
            f"{shown(path or '/')} {end.place} is no directory to copy to: {error.strerror}"
        ) from None


def _plain_mode(mode: int) -> int:
    """Return the mode of a copy that gets another owner."""
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return mode & ~0o7077
    if stat.S_ISDIR(mode):
        return mode
    return mode & ~(stat.S_ISUID | stat.S_ISGID)


def _unpack(
    archive: IO[bytes], fd: int, *, keep_owners: bool, mode: ModeChange | None = None
) -> None:
    to = Destination(fd, Metadata(privileged=is_machine_root()))
    owner = None if keep_owners else Owner(os.geteuid(), os.getegid())
    unpack_tree(archive, fd, Copier(to, owner, mode))


class _Writer(threading.Thread):
    """Writes the archive of a source into a pipe, whose other end is read meanwhile."""

    def __init__(self, source: End, found: _Found, fd: int, *, capabilities: bool) -> None:
        super().__init__(name="cp")
        self._capabilities = capabilities
        self._source = source
        self._found = found
        self._fd = fd
        self.error: BaseException | None = None

    def __enter__(self) -> _Writer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    def run(self) -> None:
        try:
            with open(self._fd, "wb", buffering=_PIECE) as out:
                _write(self._source, self._found, out, capabilities=self._capabilities)
        except BrokenPipeError:
            pass  # the reader says why
        except (OSError, StoreError) as error:
            self.error = error


def _write(source: End, found: _Found, out: IO[bytes], *, capabilities: bool = True) -> None:
    tree = Tree(source.root_fd, owners=True)
    try:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            links: dict[tuple[int, int], str] = {}
            for entry in _entries(tree, found):
                inside = entry.path[len(found.path) :].lstrip("/")
                name = posixpath.join(found.name, inside) if inside else found.name
                if name or not stat.S_ISDIR(entry.st.st_mode):
                    _write_entry(archive, entry, name, links, capabilities=capabilities)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise StoreError(
            f"{shown(source.path)} {source.place} cannot be copied: {error.strerror or error}"
        ) from error


def _entries(tree: Tree, found: _Found) -> Iterator[TreeEntry]:
    if stat.S_ISDIR(found.st.st_mode):
        yield from tree.walk(found.path)
        return
    parent = tree.open_parent(posixpath.dirname(found.path))
    try:
        yield TreeEntry(found.path, posixpath.basename(found.path), parent, found.st, 0)
    finally:
        os.close(parent)


def _write_entry(
    archive: tarfile.TarFile,
    entry: TreeEntry,
    name: str,
    links: dict[tuple[int, int], str],
    *,
    capabilities: bool,
) -> None:
    st = entry.st
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(st.st_mode)
    info.uid, info.gid = st.st_uid, st.st_gid
    info.mtime = st.st_mtime_ns // NS
    kind = stat.S_IFMT(st.st_mode)
    if kind == stat.S_IFSOCK:
        return
    if kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
    elif kind == stat.S_IFLNK:
        info.type = tarfile.SYMTYPE
        info.linkname = os.readlink(entry.name, dir_fd=entry.parent_fd)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(st.st_rdev), os.minor(st.st_rdev)
    elif kind == stat.S_IFIFO:
        info.type = tarfile.FIFOTYPE
    else:
        first = links.setdefault((st.st_dev, st.st_ino), name) if st.st_nlink > 1 else name
        if first != name:
            info.type, info.linkname = tarfile.LNKTYPE, first
        else:
            _write_file(archive, entry, info, capabilities=capabilities)
            return
    archive.addfile(info)


def _write_file(
    archive: tarfile.TarFile, entry: TreeEntry, info: tarfile.TarInfo, *, capabilities: bool
) -> None:
    fd = os.open(entry.name, _FILE, dir_fd=entry.parent_fd)
    with open(fd, "rb", buffering=0) as file:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise StoreError(f"{entry.shown} was replaced while it was copied: copy it again")
        info.size = st.st_size
        value = xattr.get_at(entry.parent_fd, os.fsencode(entry.name), b"security.capability")
        if value is not None and capabilities:
            text = value.decode("utf-8", "surrogateescape")
            info.pax_headers = {"SCHILY.xattr.security.capability": text}
        archive.addfile(info, _Whole(file, st.st_size))  # type: ignore[arg-type]  # read() is enough


class _Whole:
    """A file of exactly `size` bytes: one that shrinks meanwhile ends in zeros, as in GNU tar."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        data = self._file.read(size)
        data += bytes(size - len(data)) if not data else b""
        self._left -= len(data)
        return data
