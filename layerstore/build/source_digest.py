"""The digests of the sources of COPY and ADD: docker's, and the cache's.

This module alone decides which attributes of a file are in a digest: its name in the tree,
type, mode, owner, size, capability, link target and content, but not its times.

docker's digest of a file, which the history of an image shows, is the SHA-256 of its tar
header and content, "tarsum.v1"; that of a directory is the digest of the sorted digests in
it.  The content is read once for both.  A file that has not changed is not read again: its
digest is kept by device, inode, size, mtime and ctime.  That does not hold for a file that
could change again without a new ctime: one whose ctime is less than `_SETTLED` ago, since the
pages of a mapping are written back up to 30 s later (vm.dirty_expire_centisecs), and any file
of a filesystem in memory, where a mapping never changes it.  Such a file is read each time, and
its copy has to have the digest that the cache was told.

Source: moby `builder/remotecontext/filehash.go`, `tarsum/versioning.go`, `copy.go`, in
version 20.10, which has the file type in the mode.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from layerstore.build.tree import Tree, TreeEntry, changed, unreadable
from layerstore.db.build_table import FileKey
from layerstore.errors import StoreError
from layerstore.oci.sha256 import Hash, sha256_of
from unionfs.light_typing import NamedTuple, Protocol
from unionfs.syscalls import xattr
from unionfs.syscalls.statfs import RAMFS, TMPFS, filesystem_type

MANY = 100_000
SEEN = 32  # bytes for each file in `SourceDigest.seen`
_SIGNATURE = 16
_SETTLED = 60_000_000_000  # ns
_CHUNK = 1 << 20
_SMALL = 1 << 16
_CAPABILITY = b"security.capability"
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HEADER = b"name%s%smode%duid%dgid%dsize%dtypeflag%slinkname%suname%sgname%sdevmajor%ddevminor%d%s"
_TYPES = {
    stat.S_IFREG: "0",
    stat.S_IFLNK: "2",
    stat.S_IFCHR: "3",
    stat.S_IFBLK: "4",
    stat.S_IFDIR: "5",
    stat.S_IFIFO: "6",
}


class Memo(Protocol):
    """Where digests of files are remembered."""

    def find(self, known: FileKey) -> bytes | None:
        """Return the digest kept for `known`."""

    def keep(self, known: FileKey, digest: bytes) -> None:
        """Keep the digest of `known`."""


class NoMemo:
    """Remembers nothing."""

    def find(self, known: FileKey) -> bytes | None:
        return None

    def keep(self, known: FileKey, digest: bytes) -> None:
        return None


class SourceDigest(NamedTuple):
    """The digest of one source: `docker` is that of the history, `key` that of the cache.

    `seen` has `SEEN` bytes for each file, in the order of the walk: the `signature` of the file
    when its content was read, and the beginning of its digest if that has to be compared, else
    zeros.
    """

    docker: str
    key: bytes
    seen: bytes


class Digester:
    """Computes digests of sources in `tree`.

    `tick` is called after each `MANY` files in directories, with the number of them all.
    """

    def __init__(
        self, tree: Tree, memo: Memo | None = None, tick: Callable[[int], None] | None = None
    ) -> None:
        self._tree = tree
        self._memo: Memo = memo or NoMemo()
        self._tick = tick
        self._count = 0
        self._settled_ns = time.time_ns() - _SETTLED
        self._in_memory: dict[int, bool] = {}

    def file(self, path: str, st: os.stat_result) -> SourceDigest:
        """Return the digest of the file `path`, which `Tree.find` returned."""
        parent, _, name = path.rpartition("/")
        fd = self._tree.open_parent(parent)
        try:
            entry = TreeEntry(path, name, fd, st, 1)
            digest = self._digest(entry)
            key = _sha256(self._own(entry, digest)).digest()
            return SourceDigest(f"file:{digest.hex()}", key, self._seen(entry, digest))
        finally:
            os.close(fd)

    def directory(self, entries: Iterator[TreeEntry]) -> SourceDigest:
        """Return the digest of a walk without its sockets, which an image cannot contain."""
        digests: list[bytes] = []
        odd: list[str] = []
        links: dict[tuple[int, int], str] = {}
        key = _sha256(size=_SMALL)
        seen = bytearray()
        for entry in entries:
            if stat.S_ISSOCK(entry.st.st_mode):
                continue
            self._count += 1
            if self._tick is not None and not self._count % MANY:
                self._tick(self._count)
            digest = self._digest(entry)
            key.update(self._own(entry, digest))
            seen += self._seen(entry, digest)
            if not entry.path:
                continue  # docker leaves out the root of a tree
            shown: bytes | str | None = digest
            if entry.implied:
                shown = entry.path  # it is not in docker's tar
            elif stat.S_ISLNK(entry.st.st_mode):
                shown = self._followed(entry)
            elif entry.st.st_nlink > 1 and not self._tree.owners:
                shown = self._linked(entry, digest, links)
            if isinstance(shown, bytes):
                digests.append(shown)
            elif shown is not None:
                odd.append(shown)
        return SourceDigest(f"dir:{_of_all(digests, odd)}", key.digest(), bytes(seen))

    def _seen(self, entry: TreeEntry, digest: bytes) -> bytes:
        st = entry.st
        # Nobody can write to a stage or an image.
        compared = stat.S_ISREG(st.st_mode) and st.st_size and not self._tree.owners
        if compared and not self._lasts(entry):
            return signature(entry) + digest[: SEEN - _SIGNATURE]
        return signature(entry).ljust(SEEN, b"\0")

    def _lasts(self, entry: TreeEntry) -> bool:
        """Tell whether the content of `entry` cannot change without a change of its ctime."""
        st = entry.st
        if st.st_ctime_ns >= self._settled_ns:
            return False
        in_memory = self._in_memory.get(st.st_dev)
        if in_memory is None:
            kind = filesystem_type(entry.parent_fd)
            in_memory = kind in (TMPFS, RAMFS) or os.fstat(entry.parent_fd).st_dev != st.st_dev
            self._in_memory[st.st_dev] = in_memory
        return not in_memory

    def _followed(self, link: TreeEntry) -> bytes | str | None:
        """Return what docker uses as the digest of a symlink in a directory.

        That is the digest of its target.  For a dangling link it is the path of the link, or
        in a stage the path that the link contains.  A loop of links has no digest.
        """
        if self._tree.is_circle(link.path):
            return None
        found = self._tree.find(link.path)
        if found is None and self._tree.owners:
            target = os.readlink(link.name, dir_fd=link.parent_fd)
            named = posixpath.join("/", posixpath.dirname(link.path), target)
            return posixpath.normpath(named).lstrip("/")
        if found is None:
            return link.path
        if found.path == "":
            return link.path
        parent, _, name = found.path.rpartition("/")
        fd = self._tree.open_parent(parent)
        try:
            return self._digest(TreeEntry(found.path, name, fd, found.st, 1))
        finally:
            os.close(fd)

    def _linked(self, entry: TreeEntry, digest: bytes, links: dict[tuple[int, int], str]) -> bytes:
        """Return what docker uses as the digest of a further name of a file.

        That is the digest of a hard link entry, as in the tar of the context.
        """
        st = entry.st
        if not stat.S_ISREG(st.st_mode):
            return digest
        first = links.setdefault((st.st_dev, st.st_ino), entry.path)
        if first == entry.path:
            return digest
        name, target = (path.encode("utf-8", "surrogateescape") for path in (entry.path, first))
        header = (name, b"", st.st_mode, 0, 0, 0, b"1", target, b"", b"", 0, 0, b"")
        return _sha256(_HEADER % header).digest()

    def _own(self, entry: TreeEntry, digest: bytes) -> bytes:
        """Return the part of a file in the cache key, with a link's owner, which docker lacks."""
        return digest + entry.path.encode("utf-8", "surrogateescape") + b"\0"

    def _digest(self, entry: TreeEntry) -> bytes:
        st = entry.st
        regular = stat.S_ISREG(st.st_mode)
        if entry.implied:
            return b"implied"
        header = header_of(entry, owners=self._tree.owners)
        whole = _sha256(header).digest()
        if not regular or not st.st_size:
            return whole
        settled = self._lasts(entry)
        known = FileKey(
            st.st_dev,
            st.st_ino,
            st.st_size,
            st.st_mtime_ns,
            st.st_ctime_ns,
            whole[:_SIGNATURE],
        )
        digest = self._memo.find(known) if settled else None
        if digest is None:
            digest = _read(entry, header)
            if settled:
                self._memo.keep(known, digest)
        return digest


def header_of(entry: TreeEntry, *, owners: bool) -> bytes:
    """Return what comes before the content in the digest of a file."""
    st = entry.st
    mode = st.st_mode
    kind = _TYPES.get(stat.S_IFMT(mode))
    if kind is None:
        raise StoreError(f"{entry.shown} is a socket, which no image can have")
    name = entry.path.encode("utf-8", "surrogateescape") or b"."
    slash = b"/" if stat.S_ISDIR(mode) else b""
    uid, gid = (st.st_uid, st.st_gid) if owners else (0, 0)
    size = st.st_size if stat.S_ISREG(mode) else 0
    major = minor = 0
    target = b""
    if stat.S_ISLNK(mode):
        target = os.fsencode(os.readlink(entry.name, dir_fd=entry.parent_fd))
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        major, minor = os.major(st.st_rdev), os.minor(st.st_rdev)
    capability = b""
    if stat.S_ISREG(mode):
        value = xattr.get_at(entry.parent_fd, os.fsencode(entry.name), _CAPABILITY)
        capability = b"" if value is None else _CAPABILITY + value
    names = (b"", b"")
    if owners:
        # docker looks the names up on its host, where uid 0 and gid 0 are always "root".
        names = (b"" if uid else b"root", b"" if gid else b"root")
    return _HEADER % (
        *(name, slash, mode, uid, gid, size, kind.encode(), target),
        *(*names, major, minor, capability),
    )


def of_several(digests: Sequence[str]) -> str:
    """Return docker's digest of several sources; for one source it is that source's digest."""
    if len(digests) == 1:
        return digests[0]
    return f"multi:{_sha256(','.join(digests).encode()).hexdigest()}"


def of_content(name: str, content: bytes, mode: int) -> SourceDigest:
    """Return the digest of a heredoc, a file of root that is in no tree."""
    digest = _sha256(_plain_header(name, len(content), mode, b"") + content)
    return SourceDigest(f"file:{digest.hexdigest()}", digest.digest(), b"")


def of_file(name: str, fd: int, mode: int) -> SourceDigest:
    """Return the digest of a download, the open file `fd`, which no process writes to."""
    size = os.fstat(fd).st_size
    # docker downloads it into a directory of its host, as a file of root.
    digest = _sha256(_plain_header(name, size, mode, b"root"), size)
    at = 0
    while data := os.pread(fd, _CHUNK, at):
        digest.update(data)
        at += len(data)
    # docker writes no "file:" before the digest of a download.
    return SourceDigest(digest.hexdigest(), digest.digest(), b"")


def _plain_header(name: str, size: int, mode: int, owner: bytes) -> bytes:
    path = name.encode("utf-8", "surrogateescape")
    return _HEADER % (
        *(path, b"", stat.S_IFREG | mode, 0, 0, size, b"0", b"", owner, owner, 0, 0, b""),
    )


def signature(entry: TreeEntry) -> bytes:
    """Return 16 bytes that change whenever the ctime of the file of `entry` does."""
    st = entry.st
    text = f"{st.st_ino} {st.st_mode} "
    if not stat.S_ISDIR(st.st_mode):
        # Not for a directory: ignored files change its times, and every other file in it
        # has a signature of its own.
        text += f"{st.st_size} {st.st_mtime_ns} {st.st_ctime_ns} "
    own = text.encode() + entry.path.encode("utf-8", "surrogateescape")
    return _sha256(own).digest()[:_SIGNATURE]


def _of_all(digests: list[bytes], odd: list[str]) -> str:
    digests.sort()
    lines = sorted([*map(bytes.hex, digests), *odd]) if odd else map(bytes.hex, digests)
    whole = _sha256(size=65 * (len(digests) + len(odd)))
    separator = ""
    for line in lines:
        whole.update((separator + line).encode("utf-8", "surrogateescape"))
        separator = ","
    return whole.hexdigest()


def _read(entry: TreeEntry, header: bytes) -> bytes:
    """Return the SHA-256 of `header` and the content of the file."""
    try:
        fd = os.open(entry.name, _FLAGS, dir_fd=entry.parent_fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            raise changed(entry.path, "it was replaced") from None
        raise unreadable(entry.path, error) from None
    try:
        whole = _sha256(header, entry.st.st_size)
        left = entry.st.st_size
        while left:
            data = os.read(fd, min(_CHUNK, left))
            if not data:
                raise changed(entry.path, "it became shorter")
            whole.update(data)
            left -= len(data)
        check_unchanged(entry, os.fstat(fd))
    except OSError as error:
        raise unreadable(entry.path, error) from None
    finally:
        os.close(fd)
    return whole.digest()


class Checked:
    """Compares the entries that are copied with those that the digest was computed of."""

    def __init__(self, seen: bytes) -> None:
        self._seen = seen
        self._at = 0

    def checked(self, entry: TreeEntry) -> TreeEntry:
        """Return `entry` with what its copy has to have; StoreError if it is another one now."""
        was = self._seen[self._at : self._at + SEEN]
        self._at += SEEN
        now = signature(entry)
        if was[: len(now)] != now:
            raise changed(entry.path, "it is not what its digest was computed of")
        return entry._replace(expected=was[len(now) :])

    def finish(self) -> None:
        """Raise StoreError unless every entry of the digest was checked."""
        if self._at != len(self._seen):
            raise StoreError("a source lost files while it was read; build again")


def check_copy(entry: TreeEntry, made: int) -> None:
    """Raise StoreError unless the content of `made`, open, is what the digest was computed of."""
    if not any(entry.expected):
        return
    whole = _sha256(header_of(entry, owners=False), entry.st.st_size)
    at = 0
    while data := os.pread(made, _CHUNK, at):
        whole.update(data)
        at += len(data)
    if whole.digest()[: len(entry.expected)] != entry.expected:
        raise changed(entry.path, "it was written to")


def check_unchanged(entry: TreeEntry, now: os.stat_result) -> None:
    """Raise StoreError if the file of `entry` has changed."""
    st = entry.st
    if (st.st_ino, st.st_dev) != (now.st_ino, now.st_dev):
        raise changed(entry.path, "it was replaced")
    if (st.st_size, st.st_mtime_ns, st.st_ctime_ns) != (
        now.st_size,
        now.st_mtime_ns,
        now.st_ctime_ns,
    ):
        raise changed(entry.path, "it was written to")


def _sha256(data: bytes = b"", size: int = 0) -> Hash:
    """Return the digest of `data`, and of up to `size` bytes that follow."""
    return sha256_of(data, len(data) + size)
