"""The daemon is killed in the midst of work: every file is wholly old or wholly new.

A client does operations, each noted before and after, until the mount dies
under it.  Whatever was noted as done must be there after a remount; the one
under way is there or not, never in part.  Kills come after a random time, so
this finds what no system call of its own marks (`test_crash_points` is the
exhaustive test); UNIONFS_KILLS sets how many.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.tree import build, directory, file, special
from tests.helpers import trees
from tests.helpers.drivers import Driver, OsDriver
from tests.helpers.mounts import DEADLINE, mounted, mounted_union, require_root

KILLS = int(os.environ.get("UNIONFS_KILLS", "15"))
LONGEST = 0.2  # seconds of work before a kill

GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV, errno.ECANCELED)
"""What a system call says on a mount whose daemon died.

A request given to io_uring, which the killed daemon has not taken yet, is ended with
ECANCELED by dev_uring.c:fuse_uring_send_in_task(): the task of the ring is exiting.  Kernels
without the fix of that function of June 2026 leave such a request to the teardown of the
connection, fuse_uring_entry_teardown(), which says ECONNABORTED.  Load makes it likely,
since the daemon then waits for a CPU.  The request was not carried out in either case.
"""

Operation = Callable[[Driver], object]

BIG = 8 << 20


def _fill(base: Path) -> list[Path]:
    top, bottom = base / "top", base / "bottom"
    nodes = [directory("d"), directory("e")]
    for number in range(40):
        nodes.append(file(f"d/{number}", b"x" * number * 100, xattrs={"user.n": b"%d" % number}))
        nodes.append(file(f"m{number}/kept", b"k"))
        nodes.append(file(f"e{number}/deleted", b"d"))
    nodes += [file(f"big{number}", os.urandom(1024) * (BIG // 1024)) for number in range(4)]
    build(nodes, os.fsencode(bottom))
    tops = [file(f"m{number}/more", b"m") for number in range(40)]
    tops += [special(f"e{number}/deleted", stat.S_IFCHR) for number in range(40)]
    build(tops, os.fsencode(top))
    return [top, bottom]


class Client(threading.Thread):
    """Does random operations on `tree`, keeping a record, until it fails."""

    def __init__(self, tree: OsDriver, seed: int) -> None:
        super().__init__(name=f"client {seed}", daemon=True)
        self.tree = tree
        self.random = random.Random(seed)
        self.walked = 0
        self.done: list[tuple[str, Operation]] = []
        self.begun: tuple[str, Operation] | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while True:
                self.begun = self._choose()
                self.begun[1](self.tree)
                self.done.append(self.begun)
                self.begun = None
        except BaseException as error:
            self.error = error

    def _choose(self) -> tuple[str, Operation]:
        """Return an operation that works on the tree as it is now."""
        here = self.tree
        pick = self.random
        names = [entry for entry in here.listdir(b"") if entry.name not in (b"d", b"e")]
        folders = [entry.name for entry in names if stat.S_ISDIR(entry.kind)]
        files = [entry.name for entry in names if stat.S_ISREG(entry.kind)]
        inside = [b"d/" + entry.name for entry in here.listdir(b"d")]
        empty = [name for name in folders if not here.listdir(name)]
        new = b"new%d" % pick.getrandbits(40)
        mode = pick.choice((0o600, 0o640, 0o755))
        choices: list[tuple[str, Operation]] = [
            (f"create {new!r}", lambda tree: tree.create(new, mode)),
            (f"mkdir {new!r}", lambda tree: tree.mkdir(new, mode)),
        ]
        if files:
            one = pick.choice(files)
            choices += [
                (f"chmod {one!r}", lambda tree: tree.chmod(one, mode)),
                (f"truncate {one!r}", lambda tree: tree.truncate(one, 5)),
                (f"rename {one!r} {new!r}", lambda tree: tree.rename(one, new, 0)),
                (f"link {one!r} {new!r}", lambda tree: tree.link(one, new)),
            ]
        if inside and pick.random() < 0.5:
            # In the order of the listing, so that copies of what comes next are staged.
            self.walked += 1
            at = inside[self.walked % len(inside)]
            return f"walk {at!r}", lambda tree: tree.chmod(at, mode)
        if inside:
            two = pick.choice(inside)
            choices += [
                (f"append {two!r}", lambda tree: tree.append(two, b"appended")),
                (f"unlink {two!r}", lambda tree: tree.unlink(two)),
                (f"setxattr {two!r}", lambda tree: tree.setxattr(two, "user.k", new, 0)),
                (f"move {two!r}", lambda tree: tree.rename(two, b"e/" + new, 0)),
            ]
        if folders:
            three = pick.choice(folders)
            choices += [(f"rename dir {three!r} {new!r}", lambda tree: tree.rename(three, new, 0))]
        if empty:
            four = pick.choice(empty)
            choices += [(f"rmdir {four!r}", lambda tree: tree.rmdir(four))]
        return pick.choice(choices)


@pytest.mark.timeout(600)
def test_a_killed_daemon_leaves_old_or_new(tmp_path: Path) -> None:
    require_root()
    lowers = _fill(tmp_path)
    before = [trees.raw(lower) for lower in lowers]
    seed = random.SystemRandom().getrandbits(32)
    pick = random.Random(seed)
    for round_number in range(KILLS):
        upper, work = tmp_path / "upper", tmp_path / "work"
        upper.mkdir()
        work.mkdir()
        delay = pick.uniform(0.001, LONGEST)
        where = f"seed {seed}, round {round_number}, killed after {delay * 1000:.1f} ms"
        client = _work_until_killed(lowers, upper, work, pick.getrandbits(32), delay)
        assert isinstance(client.error, OSError), (where, client.error)
        assert client.error.errno in GONE, (where, client.begun, client.error)
        with mounted(lowers, upper, work) as root:
            found = _seen(OsDriver(root))
        _check(client, lowers, tmp_path / "model", found, where)
        assert trees.leftovers(work) == [], where
        shutil.rmtree(upper)
        shutil.rmtree(work)
    assert [trees.raw(lower) for lower in lowers] == before, "a lower layer was changed"


def _work_until_killed(
    lowers: list[Path], upper: Path, work: Path, seed: int, delay: float
) -> Client:
    with mounted_union(lowers, upper, work, quiet=False) as union:
        client = Client(OsDriver(union.root), seed)
        client.start()
        client.join(delay)  # the random time of the kill
        os.kill(union.pid, signal.SIGKILL)
        # Unmounted before the client has met its end, it would go on beneath the mount.
        client.join(DEADLINE)
        assert not client.is_alive(), "a system call outlives the daemon"
        union.crash()
        return client


def _seen(tree: Driver) -> trees.Tree:
    """Return a tree without what depends on when things happened."""
    return {path: thing.without_time() for path, thing in trees.snapshot(tree).items()}


def _check(client: Client, lowers: list[Path], target: Path, found: trees.Tree, where: str) -> None:
    trees.merge_layers(lowers, target)
    model = OsDriver(target)
    target.chmod(0o755)
    for _, operation in client.done:
        operation(model)
    old = _seen(model)
    lines = trees.differences(old, found)
    if lines and client.begun is not None:
        what, operation = client.begun
        operation(model)
        lines = trees.differences(_seen(model), found)
        where += f", in the midst of {what}"
    shutil.rmtree(target)
    last = [what for what, _ in client.done[-5:]]
    assert not lines, "\n".join([where, f"after {last}", *lines])
