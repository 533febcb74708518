"""Copies staged ahead of a program: which, for how long, and that nobody sees any of it."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.helpers.calls import FS_IMMUTABLE_FL, set_flags
from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.mounts import wait_until
from tests.helpers.trees import assert_same, snapshot
from tests.helpers.unions import Content, core, errno_of, in_a_thread, nodeid, state
from unionfs.core import stage_ahead, staging
from unionfs.core.inode import Dir
from unionfs.core.next_dirs import next_dir
from unionfs.core.stage_ahead import BEYOND, DIRS, LARGEST, MOST, RUN
from unionfs.core.staging import Copy, Staged
from unionfs.core.state import State
from unionfs.syscalls.aio import Syncs
from unionfs.syscalls.copyfile import copy_range
from unionfs.syscalls.statfs import TMPFS
from unionfs.types import SetAttr

FILES = 40
CONTENT = {f"f{number:02}": f"content of {number}" * 10 for number in range(FILES)}

EXT4 = 0xEF53

Change = Callable[[CoreDriver, bytes], object]


def chmod(tree: CoreDriver, path: bytes) -> None:
    tree.chmod(path, 0o600)


def listed(tree: CoreDriver, path: bytes = b"") -> list[bytes]:
    """Return the names of the files in a directory, in the order in which it lists them."""
    found = [entry.name for entry in tree.listdir(path) if stat.S_ISREG(entry.kind)]
    return [path + b"/" + name if path else name for name in found]


def listed_dirs(tree: CoreDriver, path: bytes) -> list[bytes]:
    """Return the names of the directories in a directory, in the order in which it lists them."""
    found = [entry.name for entry in tree.listdir(path) if stat.S_ISDIR(entry.kind)]
    return [path + b"/" + name for name in found]


def walk(tree: CoreDriver, count: int, change: Change = chmod) -> list[bytes]:
    """Change the first `count` files; return the others, in their order."""
    names = listed(tree)
    for name in names[:count]:
        change(tree, name)
    return names[count:]


def staged(layers: Layers) -> list[Path]:
    return [path for path in (layers.work / "work").iterdir() if path.is_file()]


def fds_of(directory: Path) -> list[int]:
    """Return the fds of this process that are of files in `directory`, or were before."""
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the fd of the listing
            if os.readlink(f"/proc/self/fd/{fd}").startswith(str(directory)):
                found.append(fd)
    return found


def used(tree: CoreDriver) -> int:
    return core(tree).counters()["copies_ahead"]


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary directory may be in memory."""
    monkeypatch.setattr(stage_ahead, "filesystem_type", lambda _fd: EXT4)


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path, {"d": dict(CONTENT), **CONTENT})


@pytest.fixture
def tree(layers: Layers) -> Iterator[CoreDriver]:
    """A union; what it shows at the end is what its layers hold."""
    with layers.union(background=in_a_thread, lowers_change=True) as tree:
        yield tree
        shown = snapshot(tree)
    assert_same(shown, layers.look())


def test_what_comes_next_is_staged_and_used(layers: Layers, tree: CoreDriver) -> None:
    names = walk(tree, RUN + 1)
    assert len(staged(layers)) == RUN + 1
    for name in names:
        chmod(tree, name)
    assert used(tree) >= FILES - RUN - 2
    for name in listed(tree, b"d"):
        chmod(tree, name)
    assert len(staged(layers)) == 0


def test_the_next_directory_is_staged_before_the_program_is_there(
    layers: Layers, tree: CoreDriver
) -> None:
    walk(tree, FILES)
    assert len(staged(layers)) == BEYOND, "no more, as it may not go there"
    before = used(tree)
    first, *others = listed(tree, b"d")
    chmod(tree, first)
    assert used(tree) == before + 1
    assert len(staged(layers)) > BEYOND, "it went on as expected"
    for name in others:
        chmod(tree, name)
    assert used(tree) == before + FILES


def test_a_walk_through_many_directories_waits_in_the_first_one_only(tmp_path: Path) -> None:
    few = {f"f{number}": "x" for number in range(3)}
    content = {f"dir{number}": {"empty": {}, "src": dict(few)} for number in range(12)}
    with Layers(tmp_path, {"top": content}).union(background=in_a_thread) as tree:
        for place in listed_dirs(tree, b"top"):
            listed_dirs(tree, place)
            for name in listed(tree, place + b"/src"):
                chmod(tree, name)
        assert used(tree) >= 12 * len(few) - RUN - 1
        assert core(tree).counters()["copy_ups"] == 12 * (len(few) + 2) + 1


def test_not_every_directory_of_a_tree_is_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreseen: list[Dir | None] = []

    def noted(*args: Any, **keywords: Any) -> Dir | None:
        foreseen.append(next_dir(*args, **keywords))
        return foreseen[-1]

    monkeypatch.setattr(stage_ahead, "next_dir", noted)
    content: Content = {f"dir{number:03}": {} for number in range(3 * DIRS)}
    layers = Layers(tmp_path, {"a": {**CONTENT, "deep": content}})
    with layers.union(background=in_a_thread) as tree:
        for name in listed(tree, b"a"):
            chmod(tree, name)
    assert len(foreseen) == DIRS - 1


def test_a_foreseen_directory_that_was_forgotten_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Dir] = []

    def failing(state: State, d: Dir, *, is_sorted: bool) -> Dir | None:
        calls.append(d)
        if len(calls) == 2:  # with nothing staged in it, nobody refers to `deep`
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return next_dir(state, d, is_sorted=is_sorted)

    monkeypatch.setattr(stage_ahead, "next_dir", failing)
    layers = Layers(tmp_path, {"a": {**CONTENT, "deep": {"deeper": dict(CONTENT)}}})
    with layers.union(background=in_a_thread) as tree:
        names = listed(tree, b"a")
        for name in names:
            chmod(tree, name)
        assert len(calls) > 2 and len(staged(layers)) == BEYOND


def test_a_directory_beside_one_of_an_unlisted_directory_is_not_guessed(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"top": {name: dict(CONTENT) for name in "abc"}})
    with layers.union(background=in_a_thread) as tree:
        for name in listed(tree, b"top/a"):
            chmod(tree, name)
        assert staged(layers) == []


def test_a_guessed_directory_is_forgotten_with_its_copies(layers: Layers, tree: CoreDriver) -> None:
    walk(tree, FILES)
    assert staged(layers)
    known = state(tree).table.nodes
    guessed = [node for node in known.values() if node.name == b"d"]
    assert len(guessed) == 1
    writable = state(tree).require_upper()
    assert writable.ahead is not None
    writable.ahead.discard()
    assert guessed[0] not in known.values()
    for name in listed(tree, b"d"):
        chmod(tree, name)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree, name: tree.chown(name, 5, 6),
        lambda tree, name: tree.utimens(name, 10**15, 10**15),
        lambda tree, name: tree.append(name, b"more"),
        lambda tree, name: tree.setxattr(name, "user.x", b"1", 0),
        lambda tree, name: tree.rename(name, b"moved-" + name, 0),
        lambda tree, name: tree.link(name, b"second-" + name),
    ],
    ids=["chown", "utimens", "append", "setxattr", "rename", "link"],
)
def test_every_change_gets_what_it_would_get_without(tmp_path: Path, change: Change) -> None:
    trees = []
    for number, background in enumerate((None, in_a_thread)):
        layers = Layers(tmp_path / str(number), CONTENT)
        for lower in layers.lowers:
            for path in (lower, *lower.iterdir()):
                os.setxattr(path, "user.kept", b"value")
                os.utime(path, ns=(10**18 + 1, 10**18 + 2))
        with layers.union(background=background) as tree:
            walk(tree, FILES, change)
            assert (used(tree) > MOST) == (background is not None)
            trees.append({path: thing.without_time() for path, thing in snapshot(tree).items()})
    assert trees[0] == trees[1]


class NotedSyncs(Syncs):
    """Notes the inode of each file whose fsync(2) has ended well; `fails` with an errno or 0.

    Those whose numbers are `failing` do that.
    """

    ended_well: ClassVar[set[int]] = set()
    fails = 0
    failing = range(1, 1 << 30)

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._inodes: dict[int, int] = {}

    def begin(self, files: list[tuple[int, int]]) -> int:
        begun = super().begin(files)
        self._inodes.update((number, os.fstat(fd).st_ino) for fd, number in files[:begun])
        return begun

    def ended(self, least: int) -> list[tuple[int, int]]:
        found = super().ended(least)
        self.ended_well.update(self._inodes[number] for number, error in found if not error)
        return [
            (number, error or (self.fails if number in self.failing else 0))
            for number, error in found
        ]


@pytest.mark.parametrize("ordered", [False, True])
def test_data_is_on_disk_before_the_name_is(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch, ordered: bool
) -> None:
    synced: set[int] = set()
    named: list[int] = []
    rename, fsync = os.rename, os.fsync

    def note(fd: int) -> None:
        fsync(fd)
        synced.add(os.fstat(fd).st_ino)

    def noted_rename(source: bytes, target: bytes, **places: int) -> None:
        named.append(os.stat(source, dir_fd=places["src_dir_fd"]).st_ino)
        assert named[-1] in synced
        rename(source, target, **places)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(staging, "write_back", note)
    monkeypatch.setattr(NotedSyncs, "ended_well", synced)
    monkeypatch.setattr(stage_ahead, "Syncs", NotedSyncs)
    monkeypatch.setattr(os, "rename", noted_rename)
    state(tree).require_upper().upper.ordered = ordered
    chosen = listed(tree)
    for name in chosen:
        chmod(tree, name)
    assert used(tree) > MOST and len(named) == len(chosen)


def test_without_aio_nothing_is_staged_where_it_is_needed(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_most: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(stage_ahead, "Syncs", refuse)
    state(tree).require_upper().upper.ordered = False
    walk(tree, RUN + 3)
    assert staged(layers) == []


@pytest.mark.parametrize("some", [False, True])
def test_a_sync_that_cannot_begin_is_done_when_it_is_needed(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch, some: bool
) -> None:
    class Full(Syncs):
        def begin(self, files: list[tuple[int, int]]) -> int:
            if not some or len(files) < 2:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            begun.append(super().begin(files[:-1]))
            return begun[-1]

    begun: list[int] = []
    synced: list[int] = []
    monkeypatch.setattr(stage_ahead, "Syncs", Full)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(int(fd)))
    state(tree).require_upper().upper.ordered = False
    for name in [*walk(tree, FILES), *listed(tree, b"d")]:
        chmod(tree, name)
    assert used(tree) > MOST and len(synced) == 2 * FILES - sum(begun)
    assert bool(begun) == some


def test_several_begin_together(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    class Counted(Syncs):
        def begin(self, files: list[tuple[int, int]]) -> int:
            counts.append(len(files))
            return super().begin(files)

    monkeypatch.setattr(stage_ahead, "Syncs", Counted)
    state(tree).require_upper().upper.ordered = False
    walk(tree, FILES)
    # The program waits for the first one only, and few are as likely as those that follow later.
    assert counts[:2] == [1, RUN + 1]
    assert sum(counts) >= FILES - RUN - 2
    assert len(counts) <= FILES // 3


def test_a_copy_that_is_taken_before_its_sync_began_is_synced(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may take it, and must not wait for a sync that never begins."""
    synced: list[int] = []
    threads: list[threading.Thread] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        fsync(fd)
        synced.append(os.fstat(fd).st_ino)

    class Taken(Syncs):
        def begin(self, files: list[tuple[int, int]]) -> int:
            (first, _), *_rest = files
            ino = os.fstat(first).st_ino
            if not threads and len(files) > 1:  # the request syncs its own one first
                threads.append(threading.Thread(target=chmod, args=(tree, names[RUN + 1])))
                threads[0].start()
                wait_until(lambda: ino in synced, "the sync")
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    names = listed(tree)
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(stage_ahead, "Syncs", Taken)
    state(tree).require_upper().upper.ordered = False
    for name in names[: RUN + 1]:
        chmod(tree, name)
    threads[0].join()
    assert tree.lstat(names[RUN + 1]).mode & 0o777 == 0o600


def test_no_more_is_staged_than_may_be(layers: Layers, tree: CoreDriver) -> None:
    for name in walk(tree, 0)[: MOST + RUN + 5]:
        chmod(tree, name)
        assert len(staged(layers)) <= MOST
    # A walk through a directory in between does not stop at those of the one above.
    before = used(tree)
    for name in listed(tree, b"d"):
        chmod(tree, name)
        assert len(staged(layers)) <= MOST
    assert used(tree) - before >= FILES - RUN - 2


def make_large(path: Path) -> None:
    path.write_bytes(b"special" * LARGEST)


def make_links(path: Path) -> None:
    path.write_text("special")
    path.with_name("second").hardlink_to(path)


def make_marked(path: Path) -> None:
    path.write_text("special")
    set_flags(path, FS_IMMUTABLE_FL)


def make_hidden(path: Path) -> None:
    path.write_text("special")
    os.mknod(path.parents[1] / "upper/special", stat.S_IFCHR)


def make_in_upper(path: Path) -> None:
    (path.parents[1] / "upper/special").write_text("special")


@pytest.mark.parametrize(
    "make",
    [
        make_large,
        make_links,
        make_marked,
        make_hidden,
        make_in_upper,
        Path.touch,
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("special"),
    ],
    ids=["large", "links", "marked", "hidden", "upper", "empty", "dir", "fifo", "symlink"],
)
def test_only_small_files_of_one_name_and_without_marks_are(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    layers = Layers(tmp_path, {name: text for name, text in CONTENT.items() if name < "f12"})
    special = layers.lowers[0] / "special"
    make(special)
    try:
        with layers.union(background=in_a_thread, lowers_change=True) as tree:
            for name in listed(tree):
                if name.startswith(b"f"):
                    chmod(tree, name)
                assert all(path.read_bytes().startswith(b"content") for path in staged(layers))
            assert used(tree)
    finally:
        if make is make_marked:
            set_flags(special, 0)


def test_files_in_no_order_make_nothing_likely(layers: Layers, tree: CoreDriver) -> None:
    for name in reversed(listed(tree)):
        chmod(tree, name)
        assert staged(layers) == []


def test_what_is_not_used_goes_after_a_while(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Syncs] = []

    class Closed(Syncs):
        def close(self) -> None:
            super().close()
            closed.append(self)

    monkeypatch.setattr(stage_ahead, "IDLE_S", 0.05)
    monkeypatch.setattr(stage_ahead, "Syncs", Closed)
    state(tree).require_upper().upper.ordered = False
    names = walk(tree, RUN + 3)
    wait_until(lambda: not staged(layers), "the staged copies to go")
    wait_until(lambda: len(closed) == 1, "the limited number of these to be given back")
    before = used(tree)
    chmod(tree, names[0])
    assert used(tree) == before
    wait_until(
        lambda: not any("_serve" in thread.name for thread in threading.enumerate()), "the thread"
    )
    for name in names[1 : RUN + 4]:
        chmod(tree, name)
    assert staged(layers)


@pytest.mark.parametrize(
    "settings",
    [{"volatile": True}, {"metacopy": True}, {"timeout": 0}, {"background": None}],
    ids=lambda settings: next(iter(settings)),
)
def test_where_it_is_not_done(layers: Layers, settings: dict[str, Any]) -> None:
    with layers.union(**({"background": in_a_thread} | settings)) as tree:
        state(tree).require_upper().upper.journalled = True
        walk(tree, RUN + 3)
        assert staged(layers) == []


METACOPY = "trusted.overlay.metacopy"


def append(tree: CoreDriver, path: bytes) -> None:
    tree.append(path, b"more")


@pytest.fixture
def unjournalled(layers: Layers) -> Iterator[CoreDriver]:
    """A union with metacopies, on a filesystem that writes inodes when it likes."""
    with layers.union(background=in_a_thread, lowers_change=True, metacopy=True) as tree:
        upper = state(tree).require_upper().upper
        upper.journalled = upper.ordered = False
        yield tree


def test_without_a_journal_metacopies_are_staged(
    layers: Layers, unjournalled: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their marks have to be on disk before their names are."""
    synced: set[int] = set()
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        synced.add(os.fstat(fd).st_ino)

    def noted_rename(source: bytes, target: bytes, **places: int) -> None:
        st = os.stat(source, dir_fd=places["src_dir_fd"])
        assert st.st_ino in synced
        rename(source, target, **places)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    monkeypatch.setattr(NotedSyncs, "ended_well", synced)
    monkeypatch.setattr(stage_ahead, "Syncs", NotedSyncs)
    (layers.lowers[0] / "f10").write_bytes(b"large" * LARGEST)  # no data is copied
    names = walk(unjournalled, RUN + 3)
    ahead = staged(layers)
    assert ahead and all(METACOPY in os.listxattr(path) for path in ahead)
    for name in names:
        chmod(unjournalled, name)
    assert used(unjournalled) >= FILES - RUN - 2
    assert all(METACOPY in os.listxattr(layers.upper / name) for name in CONTENT)
    assert (layers.upper / "f10").stat().st_blocks < LARGEST // 512


def test_a_staged_metacopy_is_of_no_use_to_a_writer(
    layers: Layers, unjournalled: CoreDriver
) -> None:
    name, *others = walk(unjournalled, RUN + 3)
    before, node = used(unjournalled), nodeid(unjournalled, name)
    touch = SetAttr(times_now=True)
    wait_until(lambda: not core(unjournalled).slow_setattr(node, touch), "it to be on disk")
    assert core(unjournalled).slow_open(node, os.O_WRONLY)
    append(unjournalled, name)
    assert used(unjournalled) == before
    assert (layers.upper / os.fsdecode(name)).read_text() == CONTENT[os.fsdecode(name)] + "more"
    chmod(unjournalled, others[0])
    assert used(unjournalled) == before + 1


@pytest.mark.parametrize("journalled", [False, True])
def test_a_program_that_writes_has_whole_copies_staged(
    layers: Layers, unjournalled: CoreDriver, journalled: bool
) -> None:
    state(unjournalled).require_upper().upper.journalled = journalled
    name, *others = walk(unjournalled, RUN + 3, append)
    assert staged(layers)
    for path in staged(layers):
        assert METACOPY not in os.listxattr(path) and path.read_bytes().startswith(b"content")
    chmod(unjournalled, name)  # the data is there already
    assert METACOPY not in os.listxattr(layers.upper / os.fsdecode(name))
    for other in others:
        append(unjournalled, other)
    assert used(unjournalled) >= FILES - RUN - 2


def test_in_memory_nothing_waits_for_a_disk(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_ahead, "filesystem_type", lambda _fd: TMPFS)
    with layers.union(background=in_a_thread) as tree:
        walk(tree, RUN + 3)
        assert staged(layers) == []


@pytest.mark.parametrize("room", ["ROOM", "ROOM_INODES"])
def test_a_disk_that_is_nearly_full_takes_nothing(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    names = walk(tree, RUN + 2)
    assert staged(layers)
    monkeypatch.setattr(stage_ahead, room, 1 << 62)
    counts = [len(staged(layers))]
    for name in names:
        chmod(tree, name)
        counts.append(len(staged(layers)))
    assert counts == sorted(counts, reverse=True) and counts[len(names) // 2] == 0


def test_a_program_that_empties_files_makes_nothing_likely(
    layers: Layers, tree: CoreDriver
) -> None:
    for name in listed(tree):
        tree.truncate(name, 0)
        assert staged(layers) == []


def test_what_is_removed_unused_stays_open_nowhere(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fd and its room on the disk would be taken for as long as the disk is busy."""

    class Busy(Syncs):
        def ended(self, least: int) -> list[tuple[int, int]]:
            found = super().ended(least)
            return [(number, error) for number, error in found if number == 1]  # a program waits

    monkeypatch.setattr(stage_ahead, "Syncs", Busy)
    state(tree).require_upper().upper.ordered = False
    walk(tree, RUN + 1)
    for name in listed(tree)[RUN + 1 :]:
        removed = len(staged(layers))
        tree.truncate(name, 1)
        assert removed == 0 or len(staged(layers)) == removed - 1
    assert [fd for fd in fds_of(layers.work) if os.fstat(fd).st_nlink == 0] == []


def test_an_error_while_staging_is_nobodys(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = walk(tree, RUN)
    stage_copy = staging.stage_copy

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(stage_ahead, "stage_copy", fail)
    chmod(tree, names[0])
    assert staged(layers) == []
    monkeypatch.setattr(stage_ahead, "stage_copy", stage_copy)
    for name in names[1 : RUN + 3]:
        chmod(tree, name)
    assert staged(layers)


def test_an_error_of_the_disk_is_met_again_by_the_copy_that_is_asked_for(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotedSyncs, "fails", errno.EIO)
    # Those that are staged while the copy with which the run begins is written.
    monkeypatch.setattr(NotedSyncs, "failing", range(2, RUN + 3))
    monkeypatch.setattr(stage_ahead, "Syncs", NotedSyncs)
    state(tree).require_upper().upper.ordered = False
    names = walk(tree, RUN + 1)
    before = used(tree)
    assert staged(layers)
    chmod(tree, names[0])
    assert used(tree) == before
    assert tree.lstat(names[0]).mode & 0o777 == 0o600


def test_an_error_of_the_disk_reaches_the_program_that_waits(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotedSyncs, "fails", errno.EIO)
    monkeypatch.setattr(stage_ahead, "Syncs", NotedSyncs)
    state(tree).require_upper().upper.ordered = False
    name = walk(tree, RUN)[0]
    before, ahead = tree.lstat(name), len(staged(layers))
    assert ahead == 0
    assert errno_of(lambda: chmod(tree, name)) == errno.EIO
    assert tree.lstat(name) == before and not (layers.upper / os.fsdecode(name)).exists()
    assert len(staged(layers)) == RUN + 1  # those that were staged meanwhile
    monkeypatch.setattr(NotedSyncs, "fails", 0)
    chmod(tree, name)
    assert tree.lstat(name).mode & 0o777 == 0o600


@pytest.mark.parametrize("ordered", [False, True])
def test_the_next_are_staged_while_one_is_written(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch, ordered: bool
) -> None:
    waits: list[int] = []

    def waiting(fd: int) -> None:
        waits.append(len(staged(layers)))

    class Noted(Syncs):
        """Lets nobody know of an end who does not wait for it, and of one at a time, in order."""

        def __init__(self, most: int) -> None:
            super().__init__(most)
            self.kept: list[tuple[int, int]] = []
            self.next = 1

        def ended(self, least: int) -> list[tuple[int, int]]:
            if not least:
                return []
            waits.append(len(staged(layers)))
            while not (found := [end for end in self.kept if end[0] == self.next]):
                self.kept += super().ended(1)
            self.next += 1
            return found

    monkeypatch.setattr(stage_ahead, "Syncs", Noted)
    monkeypatch.setattr(staging, "write_back", waiting)
    monkeypatch.setattr(os, "fsync", waiting)
    state(tree).require_upper().upper.ordered = ordered
    names = walk(tree, RUN)
    own = 1
    waits.clear()
    chmod(tree, names[0])
    assert waits[0] > own and len(staged(layers)) == waits[0] - own
    # Also while one that was staged ahead is not written yet.
    state(tree).write_back_ns = 10**12
    before, waits[:] = len(staged(layers)), []
    chmod(tree, names[1])
    assert waits[0] > before
    state(tree).write_back_ns = 0


class Waited(Syncs):
    """Lets nobody know of an end who does not wait for it."""

    def ended(self, least: int) -> list[tuple[int, int]]:
        return super().ended(least) if least else []


class Unable(Syncs):
    """The kernel takes no more of them."""

    def begin(self, files: list[tuple[int, int]]) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize("syncs", [Waited, Unable])
def test_no_file_is_staged_again_for_a_directory_without_any_to_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: type[Syncs]
) -> None:
    """Such a directory is forgotten, and found again as another inode."""
    made: list[bytes] = []

    def counted(copy: Copy, *, stay: bool = False) -> Staged:
        made.append(copy.node.parent.parent.name + copy.node.name)
        assert len(made) < 10 * files, "there is no end of it"
        return staging.stage_copy(copy, stay=stay)

    monkeypatch.setattr(stage_ahead, "stage_copy", counted)
    monkeypatch.setattr(stage_ahead, "Syncs", syncs)
    few = {f"f{number}": "x" for number in range(5)}
    large = {"f": "x" * (LARGEST + 1)}
    places = {f"dir{number}": {"large": large, "src": dict(few)} for number in range(12)}
    files = len(places) * len(few)
    with Layers(tmp_path, {"top": places}).union(background=in_a_thread) as tree:
        for place in listed_dirs(tree, b"top"):
            for inside in listed_dirs(tree, place):
                for name in listed(tree, inside):
                    chmod(tree, name)
    assert made and len(made) == len(set(made))


def test_nothing_is_waited_for_that_is_not_being_written(
    tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    class Refused(Unable):
        def begin(self, files: list[tuple[int, int]]) -> int:
            begun[-1] += 1
            return super().begin(files)

    def noted(tree: CoreDriver, name: bytes) -> None:
        begun.append(0)
        chmod(tree, name)

    monkeypatch.setattr(stage_ahead, "Syncs", Refused)
    walk(tree, FILES, noted)
    assert max(begun) == 2, "one before the copy is written, and one after that"


def test_a_lower_that_was_changed_from_outside_is_copied_as_it_is(
    layers: Layers, tree: CoreDriver
) -> None:
    names = walk(tree, RUN + 1)
    assert staged(layers)
    path = layers.lowers[0] / os.fsdecode(names[0])
    path.write_text("changed")
    os.setxattr(path, "user.new", b"of outside")
    tree.append(names[0], b" and more")
    copy = layers.upper / os.fsdecode(names[0])
    assert copy.read_text() == "changed and more"
    assert os.getxattr(copy, "user.new") == b"of outside"


def test_a_file_that_is_emptied_takes_none(layers: Layers, tree: CoreDriver) -> None:
    names = walk(tree, RUN + 1)
    count = len(staged(layers))
    tree.close(tree.open(names[0], os.O_WRONLY | os.O_TRUNC, 0))
    assert len(staged(layers)) >= count - 1
    assert (layers.upper / os.fsdecode(names[0])).read_bytes() == b""


def test_a_removed_file_and_one_that_is_open(layers: Layers, tree: CoreDriver) -> None:
    names = walk(tree, RUN + 2)
    held = nodeid(tree, names[0])
    tree.unlink(names[0])
    fh = tree.fs.open(held, os.O_RDWR)
    tree.fs.write(fh, 0, b"XY")
    assert tree.fs.read(fh, 0, 4) == b"XYnt"
    tree.fs.release(fh)
    tree.unlink(names[1])
    tree.rename(names[2], names[1], 0)
    assert tree.read(names[1]) == CONTENT[os.fsdecode(names[2])].encode()


@pytest.mark.parametrize("ahead", [False, True])
def test_a_freeze_takes_none_of_it(layers: Layers, tree: CoreDriver, ahead: bool) -> None:
    names = walk(tree, RUN + 3)
    to = layers.base / "frozen"
    core(tree).freeze(os.fsencode(to), ahead=ahead)
    assert staged(layers) == [] and sorted(os.listdir(to)) == sorted(
        os.fsdecode(name) for name in set(listed(tree)) - {*names}
    )
    for name in names:
        chmod(tree, name)
    assert used(tree)
    layers.lowers.insert(0, to)


def test_copies_staged_before_a_freeze_may_be_used_after_it(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread may stage one while the freeze begins."""
    names = walk(tree, RUN + 3)
    ahead = state(tree).require_upper().ahead
    assert ahead is not None
    with monkeypatch.context() as patched:
        patched.setattr(ahead, "discard", lambda: None)
        core(tree).freeze(os.fsencode(layers.base / "frozen"))
    before = used(tree)
    chmod(tree, names[0])
    assert used(tree) == before + 1
    layers.lowers.insert(0, layers.base / "frozen")


@pytest.mark.parametrize("taken", [False, True])
def test_a_freeze_waits_for_a_request_that_stages(
    layers: Layers, tree: CoreDriver, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """Or the request would go on with a file that is in a lower by then.

    One that stages before its own copy has a name may be overtaken: that is in the new upper.
    """
    to, gate = layers.base / "frozen", state(tree).gate
    freeze = threading.Thread(target=core(tree).freeze, args=(os.fsencode(to),))
    name, copied = walk(tree, RUN + taken)[0], 0

    def copy_and_freeze(*args: Any, **keywords: Any) -> None:
        nonlocal copied
        copied += 1
        if copied == 2 - taken:  # the first that is staged ahead
            freeze.start()
            wait_until(lambda: gate.closed, "the freeze")
        copy_range(*args, **keywords)

    monkeypatch.setattr(staging, "copy_range", copy_and_freeze)
    with gate.passing():
        chmod(tree, name)
    freeze.join()
    layers.lowers.insert(0, to)
    assert tree.lstat(name).mode & 0o777 == 0o600
    places = [place for place in (to, layers.upper) if (place / os.fsdecode(name)).exists()]
    assert len(places) == 1 and (not taken or places == [to])


def test_a_restored_directory_is_walked_again(layers: Layers, tree: CoreDriver) -> None:
    for _ in range(2):
        names = listed(tree, b"d")
        for name in names[: RUN + 4]:
            chmod(tree, name)
        assert staged(layers)
        core(tree).restore(b"d")
        assert all(tree.lstat(name).mode & 0o777 != 0o600 for name in names)
    for name in listed(tree, b"d"):
        chmod(tree, name)


def test_several_programs_change_the_same_files(layers: Layers, tree: CoreDriver) -> None:
    names = listed(tree)
    nodes = [nodeid(tree, name) for name in names]
    errors: list[BaseException] = []

    def change() -> None:
        try:
            for node in nodes:
                tree.fs.release(tree.fs.open(node, os.O_RDWR))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=change) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert core(tree).counters()["copy_ups"] == len(names)
    assert len(staged(layers)) <= BEYOND


def test_what_is_ready_needs_no_worker(layers: Layers, tree: CoreDriver) -> None:
    names = walk(tree, RUN + 2)
    fs, node = core(tree), nodeid(tree, names[0])
    state(tree).write_back_ns = 1_000_000  # of a disk that is not quick
    wait_until(lambda: not fs.slow_open(node, os.O_RDWR), "the copy to be on disk")
    assert fs.slow_open(nodeid(tree, names[-1]), os.O_RDWR)


def test_without_a_thread_nothing_is_staged(layers: Layers) -> None:
    def refuse(_work: object) -> None:
        raise RuntimeError("can't start new thread")

    with layers.union(background=refuse) as tree:
        walk(tree, RUN + 3)
        assert staged(layers) == []


def test_a_crash_leaves_nothing(layers: Layers) -> None:
    child = os.fork()
    if child == 0:
        try:
            with layers.union(background=in_a_thread) as tree:
                walk(tree, RUN + 5)
                os._exit(0 if staged(layers) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert staged(layers)
    shown = layers.look()
    assert staged(layers) == []
    changed = [path for path, thing in shown.items() if thing.mode & 0o777 == 0o600]
    assert len(changed) == RUN + 5
