"""Random layers to start from: what one to three lowers hold, deletions among it."""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from tests.helpers.trees import walk

NAMES = (b"a", b"b", b".x", b"\xff\xfe")
"""Few, so that operations meet; one is hidden, one is not UTF-8."""

OLD_NS = 1_000_000_000_123_456_789
XATTRS = ("user.one", "user.two")


class Kind(enum.Enum):
    FILE = "file"
    LARGE = "large"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    HARD_LINK = "hard link"  # to the first file of the layer
    WHITEOUT = "whiteout"
    OPAQUE = "opaque"


class Item(NamedTuple):
    """One thing a layer holds; impossible ones (a parent is a file) are left out."""

    path: bytes
    kind: Kind
    mode: int
    owner: int
    xattr: bool


paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)
modes = st.sampled_from((0o644, 0o755, 0o600, 0o4755, 0o2770, 0o1777))
owners = st.sampled_from((0, 1000, 2**32 - 2))

items = st.builds(
    Item, path=paths, kind=st.sampled_from(Kind), mode=modes, owner=owners, xattr=st.booleans()
)
stacks = st.lists(st.lists(items, max_size=10), min_size=1, max_size=3)
"""Layers, the topmost first."""


class WhiteoutForm(enum.Enum):
    CHAR = "char"
    XATTR = "xattr"
    AUFS = "aufs"


def build_stack(
    base: Path,
    stack: Sequence[Sequence[Item]],
    *,
    prefix: str = "trusted.overlay.",
    form: WhiteoutForm = WhiteoutForm.CHAR,
) -> list[Path]:
    """Make the layers of `stack` beneath `base`; return them, topmost first.

    Marks are put only where they have something to hide: a whiteout of nothing
    is listed by kernel overlayfs where a directory has no other layer.
    """
    layers = [base / f"lower{number}" for number in range(len(stack))]
    seen: set[bytes] = set()
    for layer, content in reversed(list(zip(layers, stack, strict=True))):
        layer.mkdir()
        builder = _Builder(os.fsencode(layer), prefix, form, seen)
        for item in content:
            builder.add(item)
        builder.finish()
        seen |= builder.made
    return layers


class _Builder:
    def __init__(self, root: bytes, prefix: str, form: WhiteoutForm, below: set[bytes]) -> None:
        self.root = root
        self.prefix = prefix
        self.form = form
        self.below = below
        self.made: set[bytes] = set()
        self.files: list[bytes] = []
        self._mark_directory(b"")

    def at(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def _mark_directory(self, path: bytes) -> None:
        if self.form is WhiteoutForm.XATTR:
            self._mark(path, "opaque", b"x")

    def _mark(self, path: bytes, name: str, value: bytes) -> None:
        os.setxattr(self.at(path), self.prefix + name, value)

    def add(self, item: Item) -> None:
        path = self.at(item.path)
        if not self._parents(item.path) or os.path.lexists(path):
            return
        mode = item.mode
        match item.kind:
            case Kind.DIRECTORY | Kind.OPAQUE:
                self._mkdir(item.path)
                if item.kind is Kind.OPAQUE and item.path in self.below:
                    self._mark(item.path, "opaque", b"y")
            case Kind.FILE | Kind.LARGE:
                size = 200_000 if item.kind is Kind.LARGE else 5
                Path(os.fsdecode(path)).write_bytes((item.path + b" of the layer ") * size)
                self.files.append(item.path)
            case Kind.SYMLINK:
                os.symlink(NAMES[item.mode % len(NAMES)], path)
                mode = -1
            case Kind.FIFO:
                os.mkfifo(path)
            case Kind.HARD_LINK:
                if not self.files:
                    return
                os.link(self.at(self.files[0]), path)
                mode = -1
            case Kind.WHITEOUT:
                self._whiteout(item.path)
                return
        self.made.add(item.path)
        if mode >= 0:
            os.chown(path, item.owner, item.owner)
            os.chmod(path, mode)
            if item.xattr and item.kind is not Kind.FIFO:
                os.setxattr(path, XATTRS[0], b"of the layer")

    def _parents(self, path: bytes) -> bool:
        parts = path.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            parent = b"/".join(parts[:depth])
            if parent not in self.made:
                if os.path.lexists(self.at(parent)):
                    return False
                self._mkdir(parent)
                self.made.add(parent)
            elif not stat.S_ISDIR(os.lstat(self.at(parent)).st_mode):
                return False
        return True

    def _mkdir(self, path: bytes) -> None:
        os.mkdir(self.at(path))
        self._mark_directory(path)

    def _whiteout(self, path: bytes) -> None:
        if path not in self.below:
            return
        folder, _, name = self.at(path).rpartition(b"/")
        if self.form is WhiteoutForm.CHAR:
            os.mknod(self.at(path), stat.S_IFCHR, os.makedev(0, 0))
        elif self.form is WhiteoutForm.XATTR:
            os.close(os.open(self.at(path), os.O_CREAT | os.O_EXCL, 0))
            self._mark(path, "whiteout", b"y")
        else:
            os.close(os.open(folder + b"/.wh." + name, os.O_CREAT, 0o444))

    def finish(self) -> None:
        """Give everything its old times, children before their directories."""
        for path in reversed(list(walk(self.root))):
            os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)


def unshare_hidden_links(layers: Sequence[Path], merged: Path) -> None:
    """Break up hard links of which one name is visible and another is not.

    overlayfs counts the hidden names in st_nlink, a plain tree does not; the
    table in `deviations` has the reason.  `merged` is what `layers` amount to.
    """
    for layer in layers:
        groups: dict[int, list[bytes]] = {}
        root = os.fsencode(layer)
        for path in walk(root):
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode) and st.st_nlink > 1:
                groups.setdefault(st.st_ino, []).append(path[len(root) + 1 :])
        for names in groups.values():
            if not _is_one_file(merged, names):
                for name in names[1:]:
                    _copy_apart(root + b"/" + name)
                for path in reversed(list(walk(root))):
                    os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)


def _is_one_file(merged: Path, names: Sequence[bytes]) -> bool:
    """Tell whether exactly `names` are the names of one file of `merged`."""
    found = set()
    for name in names:
        try:
            st = os.lstat(os.fsencode(merged) + b"/" + name)
        except OSError:
            return False
        found.add((st.st_ino, st.st_nlink))
    return len(found) == 1 and found.pop()[1] == len(names)


def _copy_apart(path: bytes) -> None:
    st = os.lstat(path)
    content = Path(os.fsdecode(path)).read_bytes()
    os.unlink(path)
    Path(os.fsdecode(path)).write_bytes(content)
    os.chown(path, st.st_uid, st.st_gid)
    os.chmod(path, stat.S_IMODE(st.st_mode))
