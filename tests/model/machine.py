"""The model test: a union behaves as the plain directory its layers amount to.

Two trees get the same operations: the subject, a union, and the model, a plain
directory made from the same layers by `merge_layers`.  Each operation must
return the same or fail with the same errno on both, and after it the trees are
the same.  Between operations the union is remounted, or its upper becomes its
topmost lower, by a remount or by a freeze.  What may differ is in `deviations`.

Invariants besides: lowers never change on disk; st_ino stays over copy_up and
remount and is unique; listings agree with lstat (`trees.snapshot` sees to
that); no mark is visible; the staging directory is empty once unmounted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.helpers import trees
from tests.helpers.calls import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from tests.helpers.core_driver import CoreDriver
from tests.helpers.drivers import Driver, OsDriver, Stat
from tests.model import layers
from tests.model.deviations import ALLOWED, Deviation
from tests.model.deviations import Subject as Kind

MAX_LOWERS = 6


class Subject(Protocol):
    """A union that can be opened over layers and closed again."""

    kind: Kind

    def open(self, lowers: Sequence[Path], upper: Path, work: Path) -> Driver: ...

    def freeze(self, upper_to: Path) -> None:
        """Make the upper the topmost lower, while the union is in use."""
        ...

    def close(self) -> None: ...


class Handle(NamedTuple):
    """One file held open in both trees."""

    model: int
    union: int


class Outcome(NamedTuple):
    """What an operation came to: a value, or the name of an errno."""

    error: str | None
    value: object = None


def outcome(operation: Callable[[], object]) -> Outcome:
    try:
        return Outcome(None, operation())
    except OSError as error:
        return Outcome(errno.errorcode.get(error.errno or 0, str(error)))


picks = st.integers(0, 999)
"""Stands for one of what there is when the rule runs, counted round."""

names = st.sampled_from(layers.NAMES)
data = st.binary(min_size=1, max_size=12)
offsets = st.sampled_from((0, 3, 4096, 150_000))
times = st.integers(0, 2_000_000_000).map(lambda seconds: seconds % 1_500_000_000 * 10**9 + 7)
open_flags = st.sampled_from(
    (
        os.O_RDONLY,
        os.O_WRONLY,
        os.O_RDWR,
        os.O_RDWR | os.O_TRUNC,
        os.O_WRONLY | os.O_APPEND,
        os.O_RDWR | os.O_CREAT,
        os.O_RDWR | os.O_CREAT | os.O_EXCL,
    )
)
rename_flags = st.sampled_from((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE | 1))


class UnionMachine(RuleBasedStateMachine):
    """Run operations on `subject` and on the model."""

    whiteout_form = layers.WhiteoutForm.CHAR
    mark_prefix = "trusted.overlay."
    max_lowers = MAX_LOWERS
    can_freeze = False

    def make_subject(self) -> Subject:
        raise NotImplementedError

    # -- the state --

    def __init__(self) -> None:
        super().__init__()
        self.subject = self.make_subject()  # may skip the test, so it comes first
        self.base = Path(tempfile.mkdtemp(prefix="model-"))
        self.umask = os.umask(0o022)
        self.allowed = ALLOWED[self.subject.kind]
        self.model = OsDriver(self.base / "model")
        self.handles: list[Handle] = []
        self.lowers: list[Path] = []
        self.rotations = 0
        self.is_open = False
        self.inos: dict[int, int] = {}  # st_ino in the model: in the union
        self.linked: set[int] = set()  # st_ino in the model of what has or had several names

    @initialize(stack=layers.stacks)
    def start(self, stack: list[list[layers.Item]]) -> None:
        self.lowers = layers.build_stack(
            self.base, stack, prefix=self.mark_prefix, form=self.whiteout_form
        )
        draft = self.base / "draft"
        trees.merge_layers(self.lowers, draft)
        assert Deviation.HIDDEN_LINKS_COUNT in self.allowed
        layers.unshare_hidden_links(self.lowers, draft)
        trees.merge_layers(self.lowers, self.base / "model")
        self.since_ns = _filesystem_now(self.base)
        self.fresh_upper()
        self.list_model()
        self.open()

    def fresh_upper(self) -> None:
        """Make an empty upper that looks like the root of the model."""
        self.upper = self.base / f"upper{self.rotations}"
        self.work = self.base / f"work{self.rotations}"
        self.upper.mkdir()
        self.work.mkdir()
        shutil.copystat(self.base / "model", self.upper)
        st_root = os.lstat(self.base / "model")
        os.chown(self.upper, st_root.st_uid, st_root.st_gid)

    def open(self) -> None:
        note(f"open {[path.name for path in self.lowers]} {self.upper.name}")
        self.before = [trees.raw(lower) for lower in self.lowers]
        self.union = self.subject.open(self.lowers, self.upper, self.work)
        self.is_open = True
        self.compare("after opening")

    def close(self) -> None:
        """Unmount, and look at what lies on disk."""
        self.close_handles()
        self.is_open = False
        self.subject.close()
        after = [trees.raw(lower) for lower in self.lowers]
        assert after == self.before, "a lower layer was changed"
        if Deviation.STAGED_WHITEOUT_STAYS not in self.allowed:
            assert trees.leftovers(self.work) == []

    def close_handles(self) -> None:
        while self.handles:
            handle = self.handles.pop(0)
            self.model.close(handle.model)
            self.union.close(handle.union)

    def teardown(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.base, ignore_errors=True)
            stack.callback(os.umask, self.umask)
            if self.is_open:
                stack.callback(self.abandon)
                self.compare("at the end")
                self.close()

    def abandon(self) -> None:
        """Unmount after a failure; what fails here is a note to it and does not replace it."""
        if not self.is_open:
            return
        # An open handle keeps the mount busy.
        for step in (self.close_handles, self.subject.close):
            try:
                step()
            except Exception as error:
                note(f"clearing up: {error!r}")

    # -- comparing --

    def compare(self, when: str) -> None:
        wanted = trees.snapshot(self.model, self.since_ns)
        found = trees.snapshot(
            self.union, self.since_ns, d_ino=Deviation.D_INO_OF_A_LINK not in self.allowed
        )
        if Deviation.WRITE_DROPS_SUID in self.allowed:
            for path, thing in wanted.items():
                there = found.get(path)
                if there is not None and stat.S_ISREG(thing.mode):
                    dropped = thing.mode & ~there.mode & (stat.S_ISUID | stat.S_ISGID)
                    wanted[path] = thing.with_mode(thing.mode & ~dropped)
        if Deviation.HIDDEN_LINKS_COUNT in self.allowed:
            for path, thing in wanted.items():
                there = found.get(path)
                if there is not None and thing.ino in self.linked and there.nlink > thing.nlink:
                    wanted[path] = thing.with_nlink(there.nlink)
        trees.assert_same(wanted, found, when)
        for path, thing in wanted.items():
            here = found[path].ino
            known = self.inos.setdefault(thing.ino, here)
            assert known == here, f"{path!r}: st_ino was {known}, is {here}, {when}"
        twins = len(self.inos) - len(set(self.inos.values()))
        assert not twins, f"two inodes have one st_ino, {when}: {self.inos}"

    def both(self, operation: Callable[[Driver], object], what: str) -> Outcome:
        """Do `operation` to the model and the union; return what it came to."""
        wanted = outcome(lambda: operation(self.model))
        note(f"{what} -> {wanted}")
        found = outcome(lambda: operation(self.union))
        assert found == wanted, f"{what}: should give {wanted}, gives {found}"
        self.list_model()
        return wanted

    def list_model(self) -> None:
        """Note what there is, and forget the st_ino of what is gone."""
        top = self.model.root
        self.found = {path[len(top) + 1 :]: os.lstat(path) for path in trees.walk(top)}
        alive = {st.st_ino for st in self.found.values()}
        self.linked &= alive
        self.linked |= {st.st_ino for st in self.found.values() if st.st_nlink > 1}
        self.inos = {ino: here for ino, here in self.inos.items() if ino in alive}

    # -- choosing what to work on --

    def some(self, pick: int, *kinds: Callable[[int], bool]) -> bytes | None:
        """Return one existing path, never the root, of one of `kinds`."""
        self.list_model()
        paths = [
            path
            for path, st in self.found.items()
            if path and (not kinds or any(kind(st.st_mode) for kind in kinds))
        ]
        return paths[pick % len(paths)] if paths else None

    def place(self, pick: int, name: bytes) -> bytes:
        """Return `name` in one of the directories, or beneath what is none."""
        self.list_model()
        folders = [path for path, st in self.found.items() if stat.S_ISDIR(st.st_mode)]
        others = [path for path, st in self.found.items() if stat.S_ISREG(st.st_mode)][:1]
        choice = folders * 3 + others + [trees.join(folders[-1], b"absent")]
        return trees.join(choice[pick % len(choice)], name)

    def _same(self, one: bytes, other: bytes) -> bool:
        return other in self.found and self.found[one].st_ino == self.found[other].st_ino

    def is_file_or_absent(self, path: bytes) -> bool:
        """Tell whether `path` may be opened: fifos and links are outside a driver's contract."""
        st = self.found.get(path)
        return st is None or stat.S_ISREG(st.st_mode)

    # -- files --

    @rule(pick=picks, name=names, mode=layers.modes)
    def create(self, pick: int, name: bytes, mode: int) -> None:
        path = self.place(pick, name)
        self.both(lambda tree: tree.create(path, mode), f"create {path!r} {mode:o}")

    @rule(pick=picks, offset=offsets, content=data)
    def write(self, pick: int, offset: int, content: bytes) -> None:
        path = self.some(pick, stat.S_ISREG, stat.S_ISDIR)
        if path is not None:
            self.both(lambda tree: tree.write(path, offset, content), f"write {path!r} {offset}")

    @rule(pick=picks, content=data)
    def append(self, pick: int, content: bytes) -> None:
        path = self.some(pick, stat.S_ISREG)
        if path is not None:
            self.both(lambda tree: tree.append(path, content), f"append {path!r}")

    @rule(pick=picks, size=offsets)
    def truncate(self, pick: int, size: int) -> None:
        path = self.some(pick, stat.S_ISREG, stat.S_ISDIR)
        if path is not None:
            self.both(lambda tree: tree.truncate(path, size), f"truncate {path!r} {size}")

    @rule(pick=picks)
    def unlink(self, pick: int) -> None:
        path = self.some(pick)
        if path is not None:
            self.both(lambda tree: tree.unlink(path), f"unlink {path!r}")

    @rule(pick=picks, to=picks, name=names)
    def link(self, pick: int, to: int, name: bytes) -> None:
        old = self.some(pick)
        if old is not None:
            new = self.place(to, name)
            self.both(lambda tree: tree.link(old, new), f"link {old!r} {new!r}")

    @rule(pick=picks, name=names, content=names)
    def symlink(self, pick: int, name: bytes, content: bytes) -> None:
        path = self.place(pick, name)
        self.both(lambda tree: tree.symlink(content, path), f"symlink {content!r} {path!r}")

    @rule(pick=picks, name=names)
    def mkfifo(self, pick: int, name: bytes) -> None:
        path = self.place(pick, name)
        self.both(lambda tree: tree.mknod(path, stat.S_IFIFO | 0o640, 0), f"mkfifo {path!r}")

    @rule(pick=picks, name=names)
    def mknod(self, pick: int, name: bytes) -> None:
        path = self.place(pick, name)
        device = os.makedev(1, 3)
        self.both(lambda tree: tree.mknod(path, stat.S_IFCHR | 0o600, device), f"mknod {path!r}")

    # -- directories --

    @rule(pick=picks, name=names, mode=layers.modes)
    def mkdir(self, pick: int, name: bytes, mode: int) -> None:
        path = self.place(pick, name)
        self.both(lambda tree: tree.mkdir(path, mode), f"mkdir {path!r} {mode:o}")

    @rule(pick=picks)
    def rmdir(self, pick: int) -> None:
        path = self.some(pick, stat.S_ISDIR, stat.S_ISREG)
        if path is not None:
            self.both(lambda tree: tree.rmdir(path), f"rmdir {path!r}")

    @rule(pick=picks)
    def rmtree(self, pick: int) -> None:
        path = self.some(pick, stat.S_ISDIR)
        if path is None:
            return
        inside = [p for p in self.found if p == path or p.startswith(path + b"/")]
        for victim in sorted(inside, reverse=True):
            self._remove(victim, is_dir=stat.S_ISDIR(self.found[victim].st_mode))

    def _remove(self, path: bytes, *, is_dir: bool) -> None:
        if is_dir:
            self.both(lambda tree: tree.rmdir(path), f"rmdir {path!r}")
        else:
            self.both(lambda tree: tree.unlink(path), f"unlink {path!r}")

    @rule(pick=picks, parts=st.lists(names, min_size=1, max_size=3))
    def mktree(self, pick: int, parts: list[bytes]) -> None:
        path = self.place(pick, b"")
        for part in parts:
            path = trees.join(path.rstrip(b"/"), part)
            self._mkdir(path)
            if path in self.found and not stat.S_ISDIR(self.found[path].st_mode):
                return
        leaf = trees.join(path, b"a")
        self.both(lambda tree: tree.create(leaf, 0o644), f"create {leaf!r}")

    def _mkdir(self, path: bytes) -> None:
        self.both(lambda tree: tree.mkdir(path, 0o755), f"mkdir {path!r}")

    @rule(pick=picks, to=picks, name=names, flags=rename_flags)
    def rename(self, pick: int, to: int, name: bytes, flags: int) -> None:
        old = self.some(pick)
        if old is not None:
            self._rename(old, self.place(to, name), flags)

    @rule(pick=picks, to=picks, flags=rename_flags)
    def rename_over(self, pick: int, to: int, flags: int) -> None:
        old, new = self.some(pick), self.some(to)
        if old is not None and new is not None:
            self._rename(old, new, flags)

    def _rename(self, old: bytes, new: bytes, flags: int) -> None:
        done = self.both(
            lambda tree: tree.rename(old, new, flags), f"rename {old!r} {new!r} {flags}"
        )
        if done.error == "ENOTEMPTY" and Deviation.FAILED_RENAME_SETS_MTIME in self.allowed:
            parent = old.rpartition(b"/")[0]
            mtime_ns = self.union.lstat(parent).mtime_ns
            if mtime_ns >= self.since_ns:
                self.model.utimens(parent, mtime_ns, mtime_ns)

    @rule(pick=picks, to=picks, name=names)
    def rename_whiteout(self, pick: int, to: int, name: bytes) -> None:
        old = self.some(pick)
        new = self.place(to, name)
        # Two names of one file: nothing to do, says the VFS, and asks nobody.
        if old is not None and not self._same(old, new):
            assert Deviation.NO_RENAME_WHITEOUT in self.allowed
            got = outcome(lambda: self.union.rename(old, new, RENAME_WHITEOUT))
            note(f"rename {old!r} {new!r} RENAME_WHITEOUT -> {got}")
            assert got.error is not None, "RENAME_WHITEOUT worked"

    # -- attributes --

    @rule(pick=picks, mode=layers.modes)
    def chmod(self, pick: int, mode: int) -> None:
        path = self.some(pick)
        if path is not None:
            self.both(lambda tree: tree.chmod(path, mode), f"chmod {path!r} {mode:o}")

    @rule(pick=picks, uid=layers.owners, gid=layers.owners)
    def chown(self, pick: int, uid: int, gid: int) -> None:
        path = self.some(pick)
        if path is not None:
            self.both(lambda tree: tree.chown(path, uid, gid), f"chown {path!r} {uid} {gid}")

    @rule(pick=picks, atime_ns=times, mtime_ns=times)
    def utimens(self, pick: int, atime_ns: int, mtime_ns: int) -> None:
        path = self.some(pick)
        if path is not None:
            self.both(lambda tree: tree.utimens(path, atime_ns, mtime_ns), f"utimens {path!r}")

    @rule(
        pick=picks,
        name=st.sampled_from(layers.XATTRS),
        value=data,
        flags=st.sampled_from((0, os.XATTR_CREATE, os.XATTR_REPLACE)),
    )
    def setxattr(self, pick: int, name: str, value: bytes, flags: int) -> None:
        path = self.some(pick)
        if path is not None:
            self.both(
                lambda tree: tree.setxattr(path, name, value, flags),
                f"setxattr {path!r} {name} {flags}",
            )

    @rule(pick=picks, name=st.sampled_from(layers.XATTRS))
    def removexattr(self, pick: int, name: str) -> None:
        path = self.some(pick)
        if path is not None:
            self.both(lambda tree: tree.removexattr(path, name), f"removexattr {path!r} {name}")

    # -- held handles --

    @rule(pick=picks, name=names, flags=open_flags)
    def hold_new(self, pick: int, name: bytes, flags: int) -> None:
        self._hold(self.place(pick, name), flags)

    @rule(pick=picks, flags=open_flags)
    def hold(self, pick: int, flags: int) -> None:
        path = self.some(pick, stat.S_ISREG)
        if path is not None:
            self._hold(path, flags)

    def _hold(self, path: bytes, flags: int) -> None:
        if not self.is_file_or_absent(path) or len(self.handles) >= 6:
            return
        opened: list[tuple[Driver, int]] = []

        def open_it(tree: Driver) -> None:
            opened.append((tree, tree.open(path, flags, 0o640)))

        try:
            done = self.both(open_it, f"open {path!r} {flags:#o}")
        except BaseException:
            for tree, fd in opened:
                tree.close(fd)
            raise
        if done.error is None:
            self.handles.append(Handle(*(fd for _, fd in opened)))

    def _with_handle(self, pick: int, use: Callable[[Driver, int], object], what: str) -> None:
        handle = self.handles[pick % len(self.handles)]
        self.both(
            lambda tree: use(tree, handle.model if tree is self.model else handle.union),
            f"{what} of handle {pick % len(self.handles)}",
        )

    @precondition(lambda self: self.handles)
    @rule(pick=picks, offset=offsets)
    def pread(self, pick: int, offset: int) -> None:
        self._with_handle(pick, lambda tree, fd: tree.pread(fd, 64, offset), f"pread {offset}")

    @precondition(lambda self: self.handles)
    @rule(pick=picks, offset=offsets, content=data)
    def pwrite(self, pick: int, offset: int, content: bytes) -> None:
        self._with_handle(
            pick, lambda tree, fd: tree.pwrite(fd, content, offset), f"pwrite {offset}"
        )

    @precondition(lambda self: self.handles)
    @rule(pick=picks, size=offsets)
    def ftruncate(self, pick: int, size: int) -> None:
        self._with_handle(pick, lambda tree, fd: tree.ftruncate(fd, size), f"ftruncate {size}")

    @precondition(lambda self: self.handles)
    @rule(pick=picks)
    def fstat(self, pick: int) -> None:
        drops = Deviation.WRITE_DROPS_SUID in self.allowed

        def seen(tree: Driver, fd: int) -> Stat:
            found = tree.fstat(fd)._replace(ino=0, mtime_ns=0)
            if drops and stat.S_ISREG(found.mode):
                found = found._replace(mode=found.mode & ~(stat.S_ISUID | stat.S_ISGID))
            return found

        self._with_handle(pick, seen, "fstat")

    @precondition(lambda self: self.handles)
    @rule(pick=picks)
    def fsync(self, pick: int) -> None:
        self._with_handle(pick, lambda tree, fd: tree.fsync(fd), "fsync")

    @precondition(lambda self: self.handles)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        handle = self.handles.pop(pick % len(self.handles))
        self.model.close(handle.model)
        self.union.close(handle.union)
        self.list_model()

    # -- the union as a whole --

    @rule()
    def check(self) -> None:
        self.compare("in between")

    @rule()
    def drop_caches(self) -> None:
        """Forget every name, as the kernel does when memory is short."""
        if isinstance(self.union, CoreDriver):
            self.union.forget_all()
            self.forget_unmarked()

    def forget_unmarked(self) -> None:
        """Forget the st_ino of what cannot bear a mark that tells it."""
        if self.mark_prefix == "user.overlay.":
            assert Deviation.USER_MARKS_ON_FILES_ONLY in self.allowed
            self.list_model()
            kept = {
                st.st_ino
                for st in self.found.values()
                if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)
            }
            self.inos = {ino: here for ino, here in self.inos.items() if ino in kept}

    @rule()
    def remount(self) -> None:
        self.compare("before a remount")
        self.close()
        self.forget_unmarked()
        self.open()

    @precondition(lambda self: len(self.lowers) < self.max_lowers)
    @rule()
    def rotate(self) -> None:
        """Make the upper the topmost lower, under a fresh upper."""
        self._link_anew()
        self.close()
        # The index goes with the workdir, and its links would count in st_nlink.
        shutil.rmtree(self.work)
        self.lowers.insert(0, self.as_lower(self.upper))
        self.rotations += 1
        self.fresh_upper()
        assert Deviation.NEW_INO_BY_ROTATION in self.allowed
        self.inos.clear()
        self.open()

    @precondition(lambda self: self.can_freeze and len(self.lowers) < self.max_lowers)
    @rule()
    def freeze(self) -> None:
        """Make the upper the topmost lower, and let nothing else notice."""
        frozen = self.base / f"frozen{self.rotations}"
        self.rotations += 1
        note(f"freeze {frozen.name}")
        self.subject.freeze(frozen)
        self.lowers.insert(0, frozen)
        self.before.insert(0, trees.raw(frozen))
        self.compare("after a freeze")

    def as_lower(self, upper: Path) -> Path:
        """Return what takes the place of `upper`, which nobody has open, as a lower."""
        return upper

    def _link_anew(self) -> None:
        """Make every hard link again, so that the upper holds all names of each."""
        assert Deviation.ROTATION_BREAKS_LINKS in self.allowed
        self.list_model()
        groups: dict[int, list[bytes]] = {}
        for path, found in sorted(self.found.items()):
            if found.st_ino in self.linked and not stat.S_ISDIR(found.st_mode):
                groups.setdefault(found.st_ino, []).append(path)
        for first, *others in groups.values():
            self._copy_up(first, self.found[first])
            for path in others:
                self._link_again(first, path)
            if others:
                # A change of the inode need not have brought up this very name.
                self._link_again(others[0], first)
            else:
                self._link_by_moving(first)

    def _link_by_moving(self, path: bytes) -> None:
        """Bring the one name left of a file up, which may be known to the index only."""
        aside = path + b"~"
        self.both(lambda tree: tree.rename(path, aside, 0), f"rename {path!r} aside")
        self.both(lambda tree: tree.rename(aside, path, 0), f"rename {path!r} back")

    def _copy_up(self, path: bytes, found: os.stat_result) -> None:
        if found.st_mtime_ns < self.since_ns:
            same = (found.st_atime_ns, found.st_mtime_ns)
            self.both(lambda tree: tree.utimens(path, *same), f"copy up {path!r}")
        else:
            owner = (found.st_uid, found.st_gid)
            self.both(lambda tree: tree.chown(path, *owner), f"copy up {path!r}")

    def _link_again(self, old: bytes, path: bytes) -> None:
        self.both(lambda tree: tree.unlink(path), f"unlink {path!r}")
        self.both(lambda tree: tree.link(old, path), f"link {path!r}")


def _filesystem_now(folder: Path) -> int:
    """Return what the clock of files says now, in ns: it may lag behind time.time_ns()."""
    probe = folder / "probe"
    probe.touch()
    return probe.stat().st_mtime_ns
