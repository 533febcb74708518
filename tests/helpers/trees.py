"""Whole trees: what one looks like, how two differ, and what stacked layers amount to.

`snapshot` reads a tree through a `Driver`; `differences` compares two.
`merge_layers` is the oracle of every union test: the layers copied over each
other bottom to top as `cp -a` would, deletions honoured (overlayfs.rst, DESIGN.md
"Union semantics").  It shares no code with the product.

`raw` says what a layer on disk really is, marks and inode numbers included:
for lowers that must not change, and for workdirs that must be clean.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.helpers.drivers import Driver, Stat
from unionfs.syscalls import xattr

MARK_PREFIXES = ("trusted.overlay.", "user.overlay.", "user.fuseoverlayfs.")
NOW = -1
"""Stands for every mtime of after the test began."""


@dataclass(frozen=True)
class Object:
    """One object of a tree as its users see it."""

    mode: int
    uid: int
    gid: int
    size: int  # 0 for a directory: no two filesystems agree on it
    rdev: int
    mtime_ns: int
    nlink: int  # 0 for a directory
    content: bytes
    target: bytes
    xattrs: dict[str, bytes]
    names: tuple[bytes, ...]  # all names in this tree, where there are several
    ino: int = field(compare=False)

    def without_time(self) -> Object:
        return replace(self, mtime_ns=0)

    def without_links(self) -> Object:
        return replace(self, nlink=0, names=())

    def with_nlink(self, nlink: int) -> Object:
        return replace(self, nlink=nlink)

    def with_mode(self, mode: int) -> Object:
        return replace(self, mode=mode)


Tree = dict[bytes, Object]


def join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


def snapshot(tree: Driver, since_ns: int | None = None, *, d_ino: bool = True) -> Tree:
    """Return all that can be seen of `tree`, the root under b"".

    mtimes of `since_ns` or later all become `NOW`.  Checks on the way that
    d_ino (unless told not to) and d_type of every listing are what lstat says,
    and that no name is listed twice.
    """
    stats: dict[bytes, Stat] = {b"": tree.lstat(b"")}
    groups: dict[int, list[bytes]] = defaultdict(list)
    todo = [b""]
    while todo:
        folder = todo.pop()
        listed = sorted(tree.listdir(folder))
        names = [entry.name for entry in listed]
        assert len(set(names)) == len(names), f"{folder!r} lists a name twice: {names}"
        for entry in listed:
            path = join(folder, entry.name)
            st = stats[path] = tree.lstat(path)
            assert entry.ino == st.ino or not d_ino, f"{path!r}: d_ino {entry.ino}, st_ino {st.ino}"
            assert entry.kind == stat.S_IFMT(st.mode), (
                f"{path!r}: d_type {entry.kind:#o}, st_mode {st.mode:#o}"
            )
            if st.is_dir:
                todo.append(path)
            else:
                groups[st.ino].append(path)
    return {path: _object(tree, path, st, groups, since_ns) for path, st in stats.items()}


def _object(
    tree: Driver, path: bytes, st: Stat, groups: dict[int, list[bytes]], since_ns: int | None
) -> Object:
    names = groups.get(st.ino, ())
    return Object(
        mode=st.mode,
        uid=st.uid,
        gid=st.gid,
        size=0 if st.is_dir else st.size,
        rdev=st.rdev,
        mtime_ns=NOW if since_ns is not None and st.mtime_ns >= since_ns else st.mtime_ns,
        nlink=0 if st.is_dir else st.nlink,
        content=tree.read(path) if stat.S_ISREG(st.mode) else b"",
        target=tree.readlink(path) if stat.S_ISLNK(st.mode) else b"",
        xattrs={name: tree.getxattr(path, name) for name in tree.listxattr(path)},
        names=tuple(sorted(names)) if len(names) > 1 else (),
        ino=st.ino,
    )


def differences(wanted: Tree, found: Tree, skip: Iterable[str] = ()) -> list[str]:
    """Return one line for each thing in which `found` is not `wanted`, but for `skip` fields."""
    lines = [f"{path!r} is missing" for path in sorted(wanted.keys() - found.keys())]
    lines += [f"{path!r} is too many" for path in sorted(found.keys() - wanted.keys())]
    fields = [name for name in Object.__annotations__ if name != "ino" and name not in set(skip)]
    for path in sorted(wanted.keys() & found.keys()):
        for name in fields:
            one, other = getattr(wanted[path], name), getattr(found[path], name)
            if one != other:
                lines.append(f"{path!r}: {name} should be {_short(one)}, is {_short(other)}")
    return lines


def _short(value: object) -> str:
    text = oct(value) if isinstance(value, int) and value > 0o7777 else repr(value)
    return text if len(text) < 120 else f"{text[:100]}… ({len(text)} characters)"


def assert_same(wanted: Tree, found: Tree, what: str = "", skip: Iterable[str] = ()) -> None:
    """Fail with every difference between `wanted` and `found`."""
    lines = differences(wanted, found, skip)
    assert not lines, "\n".join([what, *lines])


# -- layers on disk --


def raw(layer: Path) -> dict[bytes, tuple[object, ...]]:
    """Return all that is on disk beneath `layer` but atimes; content by size and ctime."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path in walk(os.fsencode(layer)):
        st = os.lstat(path)
        found[path] = (
            (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_nlink, st.st_rdev),
            (st.st_ino, st.st_mtime_ns, st.st_ctime_ns),
            {
                name: xattr.get_path(path, os.fsencode(name))
                for name in os.listxattr(path, follow_symlinks=False)
            },
        )
    return found


def walk(top: bytes) -> Iterator[bytes]:
    """Yield `top` and every path beneath it, parents first, in order of name."""
    yield top
    if stat.S_ISDIR(os.lstat(top).st_mode):
        for name in sorted(os.listdir(top)):
            yield from walk(top + b"/" + name)


def leftovers(work: Path) -> list[str]:
    """Return what is left in the staging directory of the workdir `work`.

    A volatile mount leaves its mark.
    """
    staging = work / "work"
    return sorted(set(os.listdir(staging)) - {"incompat"}) if staging.is_dir() else []


# -- the oracle --


def merge_layers(layers: Sequence[Path], target: Path) -> None:
    """Make `target` the tree that `layers`, topmost first, amount to.

    Understands whiteouts of every form of DESIGN.md and opaque directories;
    redirects and metacopies it does not.
    """
    target.mkdir(exist_ok=True)
    for layer in reversed(layers):
        _Merge(os.fsencode(layer), os.fsencode(target)).directory(b"", xwhiteouts=False)


class _Merge:
    """One layer on its way over a tree."""

    def __init__(self, layer: bytes, target: bytes) -> None:
        self.layer = layer
        self.target = target
        self.links: dict[int, bytes] = {}

    def directory(self, path: bytes, *, xwhiteouts: bool) -> None:
        source, target = _under(self.layer, path), _under(self.target, path)
        mark = _mark(source, "opaque")
        names = sorted(os.listdir(source))
        if mark == b"y" or b".wh..wh..opq" in names:
            for name in os.listdir(target):
                _remove(target + b"/" + name)
        for name in names:
            gone = name.removeprefix(b".wh.")
            if gone != name and gone not in names and not gone.startswith(b".wh."):
                _remove(target + b"/" + gone)
        for name in names:
            if not name.startswith(b".wh."):
                self._entry(join(path, name), xwhiteouts=mark == b"x")
        _copy_attributes(source, target)

    def _entry(self, path: bytes, *, xwhiteouts: bool) -> None:
        source, target = _under(self.layer, path), _under(self.target, path)
        st = os.lstat(source)
        if _is_whiteout(source, st, xwhiteouts=xwhiteouts):
            _remove(target)
            return
        if not (stat.S_ISDIR(st.st_mode) and os.path.isdir(target) and not os.path.islink(target)):
            _remove(target)
        if stat.S_ISDIR(st.st_mode):
            os.makedirs(target, exist_ok=True)
            self.directory(path, xwhiteouts=xwhiteouts)
        elif (first := self.links.get(st.st_ino)) is not None:
            os.link(_under(self.target, first), target, follow_symlinks=False)
        else:
            if st.st_nlink > 1:
                self.links[st.st_ino] = path
            if stat.S_ISLNK(st.st_mode):
                os.symlink(os.readlink(source), target)
            elif stat.S_ISREG(st.st_mode):
                shutil.copyfile(source, target)
            else:
                os.mknod(target, st.st_mode, st.st_rdev)
            _copy_attributes(source, target)


def _under(base: bytes, path: bytes) -> bytes:
    return base + b"/" + path if path else base


def _mark(path: bytes, name: str) -> bytes | None:
    for prefix in MARK_PREFIXES:
        try:
            return os.getxattr(path, prefix + name, follow_symlinks=False)
        except OSError:
            continue
    return None


def _is_whiteout(path: bytes, st: os.stat_result, *, xwhiteouts: bool) -> bool:
    if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
        return True
    empty = stat.S_ISREG(st.st_mode) and st.st_size == 0
    return xwhiteouts and empty and _mark(path, "whiteout") is not None


def _remove(path: bytes) -> None:
    if not os.path.lexists(path):
        return
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _copy_attributes(source: bytes, target: bytes) -> None:
    st = os.lstat(source)
    os.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
    for name in os.listxattr(target, follow_symlinks=False):
        os.removexattr(target, name, follow_symlinks=False)
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(MARK_PREFIXES):
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(target, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(st.st_mode):
        os.chmod(target, stat.S_IMODE(st.st_mode))
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)
