"""The index of a layer: every path on disk beneath its `diff`, one line each.

Decided here and only here: what is recorded about a layer's tree, and what counts
as a difference from it.  An entry has what lstat(2) and listxattr(2) return
for the path on disk, with the marks of overlayfs, so a tree can be compared
with its index without interpreting the marks.

The file is JSON lines packed with zstd, sorted by path: paths as text with
surrogate escapes, attribute values in base64.  In version 1 the digests of files with large
holes are of another form (`layerstore.layer.holes`).  Such an index stays as it is, and its
files are compared in that form.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import xxhash
import zstandard

from layerstore.diff.tree_walk import walk
from layerstore.errors import InvalidImage
from layerstore.layer.holes import HOLES, digest_fd
from layerstore.layer.metadata import ids_of_root
from unionfs.light_typing import NamedTuple
from unionfs.syscalls import xattr

INDEX = "index"
_LEVEL = 3
_CHUNK = 1 << 20
VERSION = 2
_READ = (1, VERSION)
_LONGEST_PATH = 4096  # PATH_MAX of the kernel, with the NUL at the end


class IndexEntry(NamedTuple):
    """One path of a layer on disk, relative to its `diff`, b"" for `diff` itself.

    `digest` is that of a regular file's content, from `layerstore.layer.holes`.  It
    detects accidental changes; an attacker can make a file with the same digest.
    """

    path: bytes
    mode: int
    uid: int
    gid: int
    size: int  # 0 except for regular files
    mtime_ns: int
    digest: str = ""
    target: bytes = b""
    rdev: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()


def write_index(path: Path, entries: Iterable[IndexEntry]) -> None:
    """Write `entries`, which are in the order of their paths, to the file `path`."""
    dumps = json.JSONEncoder(separators=(",", ":")).encode
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with path.open("xb") as file, compressor.stream_writer(file) as out:
        lines = [dumps({"pyunion-index": VERSION})]
        for entry in entries:
            path_, mode, uid, gid, size, mtime_ns, digest, target, rdev, xattrs = entry
            line: list[object] = [os.fsdecode(path_), mode, uid, gid, size, mtime_ns, digest]
            if target or rdev or xattrs:
                coded = {name: base64.b64encode(value).decode() for name, value in xattrs}
                line += [os.fsdecode(target), rdev, coded]
            lines.append(dumps(line))
            if len(lines) > 4096:
                out.write(("\n".join(lines) + "\n").encode())
                lines = []
        out.write(("\n".join(lines) + "\n").encode() if lines else b"")


def read_index(path: Path) -> Iterator[IndexEntry]:
    """Yield the entries of the index file `path`; raises InvalidImage if it is damaged."""
    try:
        with path.open("rb") as file:
            yield from _parse(zstandard.ZstdDecompressor().stream_reader(file))
    except FileNotFoundError:
        raise InvalidImage(f"the index {path} is missing") from None
    except (zstandard.ZstdError, ValueError, TypeError, IndexError) as error:
        raise InvalidImage(f"the index {path} is damaged: {error}") from None


def may_have(path: Path, attributes: Collection[str] = (), *, names: Collection[str] = ()) -> bool:
    """Tell whether the index file `path` may have a path with one of the extended `attributes`.

    Or one with a component that begins with one of `names`.  True also if the index cannot be
    read.  Takes a fraction of the time of `read_index`.
    """
    wanted = [f'"{name}":'.encode() for name in attributes]
    wanted += [f"{before}{name}".encode() for name in names for before in ("/", '["')]
    longest = max(map(len, wanted))
    end = b""
    try:
        with path.open("rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file)
            while chunk := stream.read(_CHUNK):
                chunk = end + chunk
                if any(name in chunk for name in wanted):
                    return True
                end = chunk[-longest:]
    except (OSError, zstandard.ZstdError):
        return True
    return False


def _parse(stream: zstandard.ZstdDecompressionReader) -> Iterator[IndexEntry]:
    loads = json.JSONDecoder().decode
    version: int | None = None
    rest = b""
    while chunk := stream.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            found = loads(line.decode())
            if version is None:
                version = found["pyunion-index"]
                if version not in _READ:
                    raise ValueError(f"it is of version {version}")
                continue
            path, mode, uid, gid, size, mtime_ns, digest, *more = found
            target, rdev, coded = more or ("", 0, {})
            xattrs = tuple((name, base64.b64decode(value)) for name, value in coded.items())
            yield IndexEntry(
                os.fsencode(path),
                mode,
                uid,
                gid,
                size,
                mtime_ns,
                digest,
                os.fsencode(target),
                rdev,
                xattrs,
            )
    if rest or version is None:
        raise ValueError("it is cut short")


class Difference(NamedTuple):
    """One path that differs from the index; `what` says how."""

    path: bytes
    what: str


def compare(
    diff: Path, index: Mapping[bytes, IndexEntry], *, content: bool = True
) -> Iterator[Difference]:
    """Yield the differences of the tree `diff` from `index`, in order of paths.

    Without `content` files are compared only by size and time.
    """
    missing = dict(index)
    comparable = as_comparable()
    for found in scan(diff, content=content, wanted=index):
        wanted = missing.pop(found.path, None)
        if wanted is None:
            yield Difference(found.path, "is not in the layer")
            continue
        if not content:
            found = found._replace(digest=wanted.digest)
        if found != wanted and comparable(found) != comparable(wanted):
            yield Difference(found.path, _what(comparable(wanted), comparable(found)))
    for path in sorted(missing):
        yield Difference(path, "is missing")


def as_comparable() -> Callable[[IndexEntry], IndexEntry]:
    """Return what gives an entry the id 0 for each id that root of a layer can have here."""
    uids, gids = ids_of_root()

    def comparable(entry: IndexEntry) -> IndexEntry:
        uid = 0 if entry.uid in uids else entry.uid
        return entry._replace(uid=uid, gid=0 if entry.gid in gids else entry.gid)

    return comparable


def _what(wanted: IndexEntry, found: IndexEntry) -> str:
    if stat.S_IFMT(wanted.mode) != stat.S_IFMT(found.mode):
        return "is of another type"
    names = {"digest": "content", "mtime_ns": "time", "uid": "owner", "gid": "group"}
    changed = [
        names.get(name, name)
        for name, one, other in zip(IndexEntry._fields, wanted, found, strict=True)
        if one != other
    ]
    return "differs in " + ", ".join(changed)


def scan(
    diff: Path,
    *,
    content: bool = True,
    known: Mapping[bytes, IndexEntry] = MappingProxyType({}),
    digests: Mapping[bytes, str] = MappingProxyType({}),
    wanted: Mapping[bytes, IndexEntry] = MappingProxyType({}),
) -> Iterator[IndexEntry]:
    """Yield the paths beneath `diff`, in the order of an index.

    The entries of paths in `known` are not read from disk.  A file whose digest is known
    is not read; without `content` no file is.  Digests are in the form of those in `wanted`.
    """
    top = os.fsencode(diff)
    yield _look(top, b"", "")
    found: list[IndexEntry] = []
    for folder in walk(top):
        for name in folder.names:
            path = folder.path + b"/" + name if folder.path else name
            entry = known.get(path)
            if entry is None:
                full = top + b"/" + path
                where = full if len(full) < _LONGEST_PATH else xattr.at(folder.fd, name)
                digest = digests.get(path) if content else ""
                like = wanted.get(path)
                holes = like is None or like.digest.startswith(HOLES)
                entry = _look(where, path, digest, holes=holes)
            found.append(entry)
    yield from sorted(found)


def _look(full: bytes, path: bytes, digest: str | None, *, holes: bool = True) -> IndexEntry:
    """Return the entry of `path`, which is at `full`; a file is read if its `digest` is None."""
    st = os.lstat(full)
    regular = stat.S_ISREG(st.st_mode)
    if regular and digest is None and not st.st_size:
        digest = EMPTY
    device = stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)
    return IndexEntry(
        path,
        st.st_mode,
        st.st_uid,
        st.st_gid,
        st.st_size if regular else 0,
        st.st_mtime_ns,
        (digest_file(full, holes=holes) if digest is None else digest) if regular else "",
        os.readlink(full) if stat.S_ISLNK(st.st_mode) else b"",
        st.st_rdev if device else 0,
        attributes(full),
    )


def attributes(place: bytes | int) -> tuple[tuple[str, bytes], ...]:
    """Return the attributes that the index records, of an fd or a path (not following a link)."""
    if isinstance(place, int):
        items = xattr.items_fd(place)
    else:
        try:
            names = os.listxattr(place, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            names = []
        found = ((name, xattr.get_path(place, os.fsencode(name))) for name in names)
        items = [(name, value) for name, value in found if value is not None]
    return tuple(sorted(item for item in items if not item[0].startswith(UNTRACKED)))


# These belong to this machine, not to the layer: of NFS it is an ACL made from the mode.
UNTRACKED = ("security.selinux", "security.ima", "security.evm", "system.nfs4_acl")


EMPTY = xxhash.xxh3_128_hexdigest(b"")


def digest_file(path: bytes, *, holes: bool = True) -> str:
    """Return the digest of the regular file `path`, following no link.

    Without `holes` it is that of an index of version 1.
    Raises OSError, which is ESTALE if the path is no longer a regular file.
    """
    # If it is a FIFO, the open must not block.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ESTALE, "it is no regular file any more", path)
        return digest_fd(fd, holes=holes)
    finally:
        os.close(fd)
