"""The operations that must be all or nothing, and the layers they start from."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.conformance.tree import Node, build, directory, file, hard_link, special, symlink
from tests.helpers import trees
from tests.helpers.calls import RENAME_EXCHANGE
from tests.helpers.core_driver import CoreDriver
from tests.helpers.drivers import Driver, OsDriver
from tests.helpers.mounts import wait_until
from tests.helpers.unions import in_a_thread
from unionfs.core.config import OverrideStat, UnionConfig, WhiteoutForm
from unionfs.core.opening import open_union
from unionfs.core.union import UnionFs
from unionfs.types import SetAttr

WHITEOUT = stat.S_IFCHR

TOP: Sequence[Node] = (
    file("f", b"content of f" * 1000, mode=0o4755, uid=1000, gid=1000, xattrs={"user.a": b"1"}),
    directory("d", mode=0o750, gid=7, xattrs={"user.b": b"2"}),
    file("d/x", b"x of the top"),
    directory("d/sub"),
    file("d/sub/z", b"z"),
    special("gone", WHITEOUT),
    directory("e"),  # merged, and empty since its one entry is deleted
    special("e/k", WHITEOUT),
    directory("o", xattrs={"trusted.overlay.opaque": b"y"}),
    file("o/new", b"only this shows"),
    symlink("s", "f", uid=3),
    special("p", stat.S_IFIFO | 0o640),
)
BOTTOM: Sequence[Node] = (
    file("d/x", b"x of the bottom"),
    file("d/w", b"w"),
    directory("d/sub"),
    file("d/sub/q", b"q"),
    file("gone", b"deleted"),
    file("e/k", b"deleted"),
    file("o/old", b"hidden"),
    file("low/deep/file", b"far down", mode=0o600),
    directory("low/empty"),
    file("h1", b"one file of two names", mode=0o640),
    hard_link("h2", "h1"),
)


@dataclass(frozen=True)
class Scenario:
    """One operation, after `before`, on a union with `settings`.

    `moves_mtime` names files whose mtime may be new before their content is.  With `ahead`
    copies are staged ahead.
    """

    name: str
    run: Callable[[Driver], object]
    before: Callable[[Driver], object] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    moves_mtime: tuple[bytes, ...] = ()
    ahead: bool = False

    def __str__(self) -> str:
        return self.name

    def open(self, config: UnionConfig) -> UnionFs:
        return open_union(config, in_a_thread if self.ahead else None)

    def prepare(self, tree: Driver) -> None:
        if self.before is not None:
            self.before(tree)
        if self.ahead and isinstance(tree, CoreDriver):
            # So that the operation makes the same system calls each time.
            fs, node = tree.fs, tree.get(b"d/w").nodeid
            touch = SetAttr(times_now=True)
            wait_until(lambda: not fs.slow_setattr(node, touch), "the copy to be on disk")


def _trunc(tree: Driver) -> None:
    tree.close(tree.open(b"f", os.O_WRONLY | os.O_TRUNC, 0))


def _both(*steps: Callable[[Driver], object]) -> Callable[[Driver], None]:
    def run(tree: Driver) -> None:
        for step in steps:
            step(tree)

    return run


def _fill(tree: Driver) -> None:
    """Make a directory of the upper with whiteouts in it."""
    tree.rename(b"d/w", b"w", 0)
    tree.unlink(b"d/x")
    tree.unlink(b"d/sub/z")
    tree.unlink(b"d/sub/q")


PLAIN = (
    # copy_up
    Scenario("chmod of a file", lambda t: t.chmod(b"f", 0o600)),
    Scenario("chown of a file", lambda t: t.chown(b"f", 5, 6)),
    Scenario("write to a file", lambda t: t.write(b"f", 4, b"new")),
    Scenario("append to a deep file", lambda t: t.append(b"low/deep/file", b"new")),
    Scenario("truncate a file", lambda t: t.truncate(b"f", 3)),
    Scenario("open a file with O_TRUNC", _trunc),
    Scenario("set an xattr", lambda t: t.setxattr(b"f", "user.new", b"v", 0)),
    Scenario("remove an xattr", lambda t: t.removexattr(b"f", "user.a")),
    Scenario("chown of a symlink", lambda t: t.chown(b"s", 5, 6)),
    Scenario("utimens of a fifo", lambda t: t.utimens(b"p", 10**15, 10**15)),
    Scenario("chmod of a merged directory", lambda t: t.chmod(b"d", 0o700)),
    Scenario("chmod of the root", lambda t: t.chmod(b"", 0o711)),
    Scenario("setxattr of a lower directory", lambda t: t.setxattr(b"low", "user.n", b"v", 0)),
    Scenario("write to a hard link", lambda t: t.write(b"h1", 0, b"new")),
    Scenario("chmod of a hard link", lambda t: t.chmod(b"h2", 0o600)),
    # making
    Scenario("create", lambda t: t.create(b"new", 0o640)),
    Scenario("create in a deep lower", lambda t: t.create(b"low/deep/new", 0o640)),
    Scenario("create over a whiteout", lambda t: t.create(b"gone", 0o640)),
    Scenario(
        "create over an own whiteout", lambda t: t.create(b"f", 0o640), lambda t: t.unlink(b"f")
    ),
    Scenario("mkdir", lambda t: t.mkdir(b"new", 0o750)),
    Scenario("mkdir over a whiteout", lambda t: t.mkdir(b"gone", 0o750)),
    Scenario("mkdir over a deleted file", lambda t: t.mkdir(b"f", 0o750), lambda t: t.unlink(b"f")),
    Scenario("symlink over a whiteout", lambda t: t.symlink(b"x", b"gone")),
    Scenario("mkfifo in a merged directory", lambda t: t.mknod(b"d/p", stat.S_IFIFO | 0o640, 0)),
    Scenario("link of a lower file", lambda t: t.link(b"f", b"low/f")),
    Scenario("link of a lower hard link", lambda t: t.link(b"h1", b"h3")),
    Scenario("link over a whiteout", lambda t: t.link(b"s", b"gone")),
    # removing
    Scenario("unlink of a lower file", lambda t: t.unlink(b"f")),
    Scenario("unlink in a deep lower", lambda t: t.unlink(b"low/deep/file")),
    Scenario("unlink of a copied-up file", lambda t: t.unlink(b"f"), lambda t: t.chmod(b"f", 0)),
    Scenario("unlink of an upper file", lambda t: t.unlink(b"n"), lambda t: t.create(b"n", 0o600)),
    Scenario("unlink of a hard link", lambda t: t.unlink(b"h1")),
    Scenario(
        "unlink of a copied-up hard link", lambda t: t.unlink(b"h1"), lambda t: t.chmod(b"h1", 0)
    ),
    Scenario(
        "unlink of the last hard link",
        lambda t: t.unlink(b"h2"),
        _both(lambda t: t.chmod(b"h2", 0o600), lambda t: t.unlink(b"h1")),
    ),
    Scenario("rmdir of an empty merged directory", lambda t: t.rmdir(b"e")),
    Scenario("rmdir of a lower directory", lambda t: t.rmdir(b"low/empty")),
    Scenario("rmdir of a directory of whiteouts", lambda t: t.rmdir(b"d/sub"), _fill),
    Scenario("rmdir of an upper one", lambda t: t.rmdir(b"n"), lambda t: t.mkdir(b"n", 0o700)),
    # renaming
    Scenario("rename of a lower file", lambda t: t.rename(b"f", b"g", 0)),
    Scenario("rename of a file over a merged one", lambda t: t.rename(b"f", b"d/x", 0)),
    Scenario("rename of a file over a whiteout", lambda t: t.rename(b"f", b"gone", 0)),
    Scenario("rename of a hard link", lambda t: t.rename(b"h1", b"low/h", 0)),
    Scenario("rename of a symlink over a hard link", lambda t: t.rename(b"s", b"h1", 0)),
    Scenario(
        "rename of an upper file over a lower",
        lambda t: t.rename(b"n", b"f", 0),
        lambda t: t.create(b"n", 0o600),
    ),
    Scenario(
        "rename back over its own whiteout",
        lambda t: t.rename(b"g", b"f", 0),
        lambda t: t.rename(b"f", b"g", 0),
    ),
    Scenario("rename of a merged directory", lambda t: t.rename(b"d", b"m", 0)),
    Scenario("rename of a lower directory", lambda t: t.rename(b"low", b"m", 0)),
    Scenario("rename of a directory to another", lambda t: t.rename(b"d", b"low/deep/d", 0)),
    Scenario("rename of a directory over an empty one", lambda t: t.rename(b"d", b"e", 0)),
    Scenario("rename of a directory over a whiteout", lambda t: t.rename(b"d", b"gone", 0)),
    Scenario(
        "second rename of a directory",
        lambda t: t.rename(b"m", b"low/m", 0),
        lambda t: t.rename(b"d", b"m", 0),
    ),
    Scenario(
        "rename within a renamed directory",
        lambda t: t.rename(b"m/sub", b"m/tub", 0),
        lambda t: t.rename(b"d", b"m", 0),
    ),
    Scenario("exchange of two files", lambda t: t.rename(b"f", b"d/x", RENAME_EXCHANGE)),
    Scenario("exchange of a file and a directory", lambda t: t.rename(b"f", b"d", RENAME_EXCHANGE)),
    Scenario("exchange of two directories", lambda t: t.rename(b"d", b"low", RENAME_EXCHANGE)),
)


def _stage_w(tree: Driver) -> None:
    """Have a copy of w, which the directory lists after x, staged ahead."""
    list(tree.listdir(b"d"))
    tree.chmod(b"d/x", 0o600)


AHEAD = tuple(
    Scenario(f"staged ahead: {name}", run, _stage_w, ahead=True)
    for name, run in (
        ("append", lambda t: t.append(b"d/w", b"new")),
        ("chmod", lambda t: t.chmod(b"d/w", 0o604)),
        ("rename", lambda t: t.rename(b"d/w", b"w", 0)),
    )
)

METACOPY = (
    Scenario("metacopy: chmod", lambda t: t.chmod(b"f", 0o600)),
    Scenario("metacopy: chown of a hard link", lambda t: t.chown(b"h1", 5, 6)),
    # The data comes into the inode that is there: it has handles, and perhaps other names.
    Scenario(
        "metacopy: write after it",
        lambda t: t.write(b"f", 4, b"n"),
        lambda t: t.chmod(b"f", 0),
        moves_mtime=(b"f",),
    ),
    Scenario(
        "metacopy: truncate after it", lambda t: t.truncate(b"f", 3), lambda t: t.chmod(b"f", 0)
    ),
    Scenario(
        "metacopy: rename after it", lambda t: t.rename(b"f", b"d/g", 0), lambda t: t.chmod(b"f", 0)
    ),
    Scenario("metacopy: link after it", lambda t: t.link(b"f", b"d/g"), lambda t: t.chmod(b"f", 0)),
    Scenario("metacopy: rename", lambda t: t.rename(b"f", b"d/g", 0)),
)

_DELETING = tuple(
    scenario
    for scenario in PLAIN
    if "whiteout" in scenario.name
    or scenario.name.startswith(("unlink", "rmdir", "rename", "exch"))
)


def _with(settings: dict[str, Any], prefix: str, chosen: Sequence[Scenario]) -> list[Scenario]:
    return [
        replace(scenario, name=prefix + scenario.name, settings=settings) for scenario in chosen
    ]


_MAKING = tuple(
    scenario for scenario in PLAIN if scenario.name.startswith(("create", "mk", "symlink"))
)
_IN_ATTRIBUTES = (
    Scenario("symlink", lambda t: t.symlink(b"x", b"new")),
    Scenario("mknod of a file", lambda t: t.mknod(b"new", stat.S_IFREG | 0o2640, 0)),
    Scenario("mkfifo", lambda t: t.mknod(b"new", stat.S_IFIFO | 0o640, 0)),
    Scenario("mknod", lambda t: t.mknod(b"new", stat.S_IFCHR | 0o640, os.makedev(1, 3))),
    *_MAKING,
)

SCENARIOS = [
    *PLAIN,
    *AHEAD,
    *_with({"metacopy": True}, "", METACOPY),
    *_with({"metacopy": True}, "metacopy: ", AHEAD),
    *_with({"whiteout": WhiteoutForm.XATTR}, "xattr: ", _DELETING),
    *_with({"whiteout": WhiteoutForm.AUFS}, "aufs: ", _DELETING),
    *_with({"override": OverrideStat.CONTAINERS}, "override: ", _IN_ATTRIBUTES),
]

_WITHOUT_EXCHANGE = (
    "mkdir over a deleted file",
    "rmdir of a directory of whiteouts",
    "rename of a merged directory",
    "rename of a directory over an empty one",
)
IN_PLACE = [scenario for scenario in PLAIN if scenario.name in _WITHOUT_EXCHANGE]
"""Operations that exchange names where the filesystem can."""

DEVICES: Sequence[Node] = (
    special("f", WHITEOUT),
    directory("d/sub"),
    special("d/sub/z", WHITEOUT),
    special("d/sub/q", WHITEOUT),
)
"""An upper with whiteouts that are devices."""

OVER_DEVICES = (
    Scenario("mkdir over a device", lambda t: t.mkdir(b"f", 0o750)),
    Scenario("rename of a directory over a device", lambda t: t.rename(b"low", b"f", 0)),
    Scenario("rename of a directory over devices", lambda t: t.rename(b"low", b"d/sub", 0)),
)


@dataclass(frozen=True)
class Bench:
    """Lowers to work on, made once, and uppers to throw away, which hold `given` at first."""

    base: Path
    lowers: tuple[Path, ...]
    given: Sequence[Node] = ()

    @classmethod
    def make(cls, base: Path) -> Bench:
        lowers = (base / "top", base / "bottom")
        build(TOP, os.fsencode(lowers[0]))
        build(BOTTOM, os.fsencode(lowers[1]))
        return cls(base, lowers)

    def fresh(self, number: int) -> tuple[Path, Path]:
        """Return an upper, its root like that of the merged tree, and its workdir."""
        upper, work = self.base / f"upper{number}", self.base / f"work{number}"
        build(self.given, os.fsencode(upper))
        work.mkdir()
        return upper, work

    def config(self, upper: Path, work: Path, scenario: Scenario) -> UnionConfig:
        return UnionConfig(
            lowers=tuple(os.fsencode(lower) for lower in self.lowers),
            upper=os.fsencode(upper),
            work=os.fsencode(work),
            **scenario.settings,
        )

    def wanted(self, scenario: Scenario) -> tuple[trees.Tree, trees.Tree]:
        """Return the merged tree before and after the operation, as a plain directory has it."""
        target, given = self.base / "model", self.base / "given"
        build(self.given, os.fsencode(given))
        trees.merge_layers((given, *self.lowers), target)
        model = OsDriver(target)
        scenario.prepare(model)
        old = seen(model)
        scenario.run(model)
        return old, seen(model)


SINCE_NS = 1_500_000_000 * 10**9
"""Between the times of the layers and those of this test's own doing."""


def seen(tree: Driver) -> trees.Tree:
    """Return what is to be all or nothing: all but the times of directories."""
    found = trees.snapshot(tree, SINCE_NS)
    return {
        path: thing.without_time() if stat.S_ISDIR(thing.mode) else thing
        for path, thing in found.items()
    }


def assert_old_or_new(found: trees.Tree, old: trees.Tree, new: trees.Tree, when: str) -> None:
    from_old, from_new = trees.differences(old, found), trees.differences(new, found)
    if from_old and from_new:
        text = "\n  ".join(["", "not as before:", *from_old, "not as after:", *from_new])
        raise AssertionError(f"{when}: neither old nor new{text}")


def forgive_mtimes(found: trees.Tree, scenario: Scenario, old: trees.Tree) -> trees.Tree:
    """Return `found` with the old mtimes of what `scenario` may touch before it changes it."""
    back = {
        path: replace(found[path], mtime_ns=old[path].mtime_ns)
        for path in scenario.moves_mtime
        if path in found and path in old and found[path].content == old[path].content
    }
    return found | back


def forgive_link_counts(found: trees.Tree, *allowed: trees.Tree) -> trees.Tree:
    """Return `found` with its counts of links as in the first of `allowed` that has its names.

    A crash may leave st_nlink too high, as it may in overlayfs: the count of a
    file whose name was whited out is written after the whiteout.  Too low it
    must never be, or copying programs would miss that names belong together.
    """
    for tree in allowed:
        if tree.keys() == found.keys() and all(
            found[path].nlink >= thing.nlink for path, thing in tree.items()
        ):
            return {path: found[path].with_nlink(thing.nlink) for path, thing in tree.items()}
    return found


def is_torn(found: trees.Tree, old: trees.Tree, new: trees.Tree) -> bool:
    """Tell whether every name is as before or as after, but not all the same.

    Without whiteout devices there is no rename that leaves a whiteout, so that
    a crash may show what was moved under both its names.
    """

    def alone(tree: trees.Tree, path: bytes) -> trees.Object | None:
        thing = tree.get(path)
        return None if thing is None else thing.without_links()

    return all(
        alone(found, path) in (alone(old, path), alone(new, path))
        for path in found.keys() | old.keys() | new.keys()
    )
