"""Stage copies of lower files before a program changes them.

A copy gets its name when its data is on disk, so a program that changes one file after the
other, as chown -R does, would wait for the disk at each.  When some files of a directory were
copied up in an order that `runs` knows, those that follow are staged too, and written to
disk meanwhile, also those of the directory where the program goes next.  A copy_up of one of
these only gives it its name.  The promises are those of every copy: nothing is seen of it before,
and a crash leaves nothing.

Decided here and only here: which files are staged ahead, `MOST` small ones with one name and
without marks of chattr(1), or metacopies of them, as the program had the last one copied; and
for how long.  What is not used goes when nothing was copied up
for `IDLE_S`, when the disk is nearly full, at a freeze and at the end.

A program that has to wait for the disk nevertheless is what stages the next ones meanwhile.

Where it takes an fsync(2) until data is on disk, the kernel is asked for that when copies are
staged, and does it for several at a time, see `syscalls.aio`.  So several are staged at a time:
their inodes are in the same blocks, and code and data of the kernel and ours in the caches.

Threading: a request that has copied a file up stages the next ones, in its own thread, if it
gets `_turn` without waiting.  A function that is given to `start`, which has to run it in a
thread of its own, removes what is not used.  `_Syncing._lock` is taken after all others.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress

from unionfs.core.ahead import ReadAhead, Start
from unionfs.core.inode import LOWER, File, in_upper
from unionfs.core.lookup import lookup
from unionfs.core.next_dirs import next_dir
from unionfs.core.readdir import listing_of
from unionfs.core.runs import Run, Runs
from unionfs.core.staging import Copy, Staged, is_unsafe, plan_copy, secure_data, stage_copy
from unionfs.core.state import State, Writable
from unionfs.core.whiteout import DT_REG, TYPE_MASK
from unionfs.errors import fs_error
from unionfs.syscalls.aio import Syncs
from unionfs.syscalls.statfs import RAMFS, TMPFS, filesystem_type

MOST = 32
LARGEST = 64 << 10  # bytes
RUN = 1  # so many files in order, after the first, make more of them likely
BEYOND = 8  # copies in directories to come, if the program has not gone on as expected yet
IDLE_S = 3.0
ROOM = 64 << 20  # bytes that are free on a disk that is not nearly full
ROOM_INODES = 1024
_A_TIME = 16  # copies that one request stages, fewer at the begin of a run
_AT_FIRST = 4  # copies if none is ahead
_AT_ONCE = 256  # names that are looked at for them
DIRS = 32  # directories in a row that are foreseen
_PATIENCE_S = 1.0
_IN_MEMORY = (TMPFS, RAMFS)
_MOST_SYNCS = 4 * MOST  # also those of copies that were removed


class _Ahead:
    """A staged copy of the file at `place` of `run`, and when it was made.

    `sync` is the number of the fsync(2) under way, 0 if there is none.  `error` is None until
    that has ended, and then its errno, 0 if the data is on disk.
    """

    __slots__ = ("error", "place", "run", "since", "staged", "sync")

    def __init__(self, staged: Staged, run: Run, place: int) -> None:
        self.staged, self.run, self.place = staged, run, place
        self.since = time.monotonic_ns()
        self.sync = 0
        self.error: int | None = 0 if staged.safe else None


class _Syncing:
    """The staged copies whose data is on its way to the disk."""

    def __init__(self) -> None:
        """Raises what `Syncs` does."""
        self._syncs = Syncs(_MOST_SYNCS)
        self._under_way: dict[int, _Ahead] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._closed = False

    def begin(self, made: list[_Ahead]) -> None:
        """Begin to write those `made`, unless too many are being written; one caller at a time.

        Those that begin together share blocks of inodes, and flushes of the disk's cache.
        """
        count = self._count
        files: list[tuple[int, int]] = []
        for ahead in made:
            fd = ahead.staged.fd
            assert fd is not None
            self._count += 1
            self._under_way[self._count] = ahead
            files.append((fd, self._count))
        try:
            begun = self._syncs.begin(files)
        except OSError:
            begun = 0
        # Not before it has begun: somebody who takes the copy waits for this `sync` to end.
        for number, ahead in enumerate(made, count + 1):
            if number <= count + begun:
                ahead.sync = number
            else:
                del self._under_way[number]
        if begun < len(made):
            self.note()

    def forget(self, ahead: _Ahead) -> None:
        """Drop `ahead`, so that its file is closed although it is still being written."""
        self._under_way.pop(ahead.sync, None)
        ahead.sync = 0

    def note(self) -> None:
        """Note those that have ended."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._closed:
                    self._note(wait=False)
            finally:
                self._lock.release()

    def wait_for(self, ahead: _Ahead) -> None:
        """Wait until the sync of `ahead` has ended; it may be unknown how, after `close`."""
        with self._lock:
            while ahead.sync in self._under_way:
                self._note(wait=True)

    def _note(self, *, wait: bool) -> None:
        for number, error in self._syncs.ended(int(wait)):
            ahead = self._under_way.pop(number, None)
            if ahead is not None:
                ahead.error = error

    def close(self) -> None:
        """Wait for those under way."""
        with self._lock:
            self._closed = True
            self._under_way.clear()
            self._syncs.close()


class StageAhead:
    """What is staged ahead of the programs of one union."""

    def __init__(self, state: State, writable: Writable, start: Start) -> None:
        self._state, self._writable, self._start = state, writable, start
        self._staged: dict[File, _Ahead] = {}
        self._held: File | None = None  # whose copy lock the thread with `_turn` has
        self._runs = Runs()
        self._turn = threading.Lock()
        self._used = 0.0
        self._syncing: _Syncing | None = None  # where an fsync(2) is needed
        self._ended = threading.Event()
        self._ended.set()
        self._closed = threading.Event()

    def is_ready(self, node: File, *, metadata_only: bool) -> bool:
        """Tell whether a copy_up of `node` will hardly wait for the disk.

        With `metadata_only` a metacopy is enough.
        """
        ahead = self._staged.get(node)
        if ahead is None or (ahead.staged.copy.metacopy and not metadata_only):
            return False
        return self._is_written(ahead)

    def take(self, node: File, size: int | None, *, metadata_only: bool) -> Staged | None:
        """Return the copy of `node`, on disk; None if there is none of use.

        It is whole, or with `metadata_only` perhaps a metacopy; none is of use if `size` is
        given.  The caller holds the copy lock of `node`.
        """
        ahead = self._staged.pop(node, None)
        if ahead is None:
            return None
        try:
            copy = ahead.staged.copy
            usable = size is None and (metadata_only or not copy.metacopy) and _is_as_it_was(copy)
            if usable:
                if not self._is_written(ahead):
                    self._go_ahead(ahead, node)
                self._secure(ahead)
        except OSError:
            usable = False  # a copy that is made now reports an error of the disk
        if not usable:
            self._remove(node, ahead)
            return None
        self._state.table.forget(node.nodeid, 1)
        self._state.counts["copies_ahead"] += 1
        return ahead.staged

    def follow(self, copy: Copy) -> None:
        """Note that a file was copied up by `copy`, and stage what is likely to be next.

        The caller holds no lock of the core.
        """
        node = copy.node
        if not self._turn.acquire(blocking=False):
            return
        try:
            run = self._runs.note(node)
            if run is not None and self._is_due(run):
                # No program asked for these copies: one that does gets the error of its own.
                with suppress(OSError):
                    if self._may_stage():
                        self._stage_next(run, copy.metacopy)
        finally:
            self._turn.release()

    def secure(self, staged: Staged) -> bool:
        """Write `staged`, which was made just now, to disk if the next are to be staged meanwhile.

        Tells whether it did.  Raises the error of the disk.  The caller holds the copy lock of
        the file: no other thread that waits for one holds one.
        """
        node = staged.copy.node
        if not self._turn.acquire(blocking=False):
            return False
        self._held = node
        try:
            run = self._runs.note(node)
            if run is None or not self._is_due(run):
                return False
            ahead = _Ahead(staged, run, run.at)
            with suppress(OSError):  # as in `follow`
                if self._may_stage():
                    if self._syncing is not None and is_unsafe(staged):
                        self._syncing.begin([ahead])
                    self._stage_meanwhile(ahead, run)
            self._secure(ahead)
            return True
        finally:
            self._held = None
            self._turn.release()

    def discard(self) -> None:
        """Remove all that is staged."""
        for node in list(self._staged):
            self._drop(node)

    def close(self) -> None:
        """Remove all that is staged, and end the thread."""
        with self._turn:
            self._closed.set()
            self._discard_all()
        self._ended.wait(_PATIENCE_S)

    def _secure(self, ahead: _Ahead) -> None:
        """Wait until the data of `ahead` is on disk."""
        if not ahead.sync:
            secure_data(ahead.staged)
            return
        syncing = self._syncing
        if ahead.error is None and syncing is not None:
            with self._state.gate.outside():
                syncing.wait_for(ahead)
        if ahead.error != 0:
            raise fs_error(ahead.error or errno.EIO)

    def _is_written(self, ahead: _Ahead) -> bool:
        """Tell whether the data of `ahead` is on disk, or has had the time for that."""
        if self._writable.upper.ordered:
            return time.monotonic_ns() - ahead.since > self._state.write_back_ns
        syncing = self._syncing
        if ahead.error is None and syncing is not None:
            syncing.note()
        return ahead.error == 0

    def _is_being_written(self, ahead: _Ahead) -> bool:
        """Tell whether the data of `ahead` is on its way to the disk, which comes to an end."""
        begun = self._writable.upper.ordered or ahead.sync != 0
        return begun and not self._is_written(ahead)

    def _go_ahead(self, ahead: _Ahead, node: File) -> None:
        """Stage what is likely to be next, while `ahead`, which `node` waits for, is written."""
        if not self._turn.acquire(blocking=False):
            return
        self._held = node
        try:
            run = self._runs.note(node)
            if run is not None and self._is_due(run):
                with suppress(OSError):  # as in `follow`
                    if self._may_stage():
                        self._stage_meanwhile(ahead, run)
        finally:
            self._held = None
            self._turn.release()

    def _drop(self, node: File) -> None:
        ahead = self._staged.pop(node, None)
        if ahead is not None:
            self._remove(node, ahead)

    def _remove(self, node: File, ahead: _Ahead) -> None:
        self._state.table.forget(node.nodeid, 1)
        syncing = self._syncing
        if syncing is not None:
            syncing.forget(ahead)
        with suppress(OSError):  # the next mount empties the staging directory
            self._writable.work.discard(ahead.staged.copy.name)

    # -- with `_turn` --

    def _discard_all(self) -> None:
        """Remove all that is staged; a machine has a limited number of `Syncs`."""
        self.discard()
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.close()

    def _may_stage(self) -> bool:
        """Tell whether the disk has room, and all is there to stage; begin it if it is not."""
        free = os.statvfs(self._writable.work.fd)
        # Some filesystems, such as btrfs, have no number of inodes.
        few_inodes = free.f_files and free.f_favail < ROOM_INODES
        if few_inodes or free.f_bavail * free.f_frsize < ROOM:
            self.discard()
            return False
        self._used = time.monotonic()
        if self._closed.is_set():
            return False
        if self._syncing is None and not self._writable.upper.ordered:
            self._syncing = _Syncing()
        if self._ended.is_set():
            with suppress(RuntimeError):  # no thread can be started
                self._start(self._serve)
                self._ended.clear()
        return not self._ended.is_set()

    def _stage_meanwhile(self, ahead: _Ahead, run: Run) -> None:
        """Stage the next files of `run` until `ahead` is written; some in any case."""
        self._stage_next(run, ahead.staged.copy.metacopy)
        while run.count > RUN and self._is_due(run) and self._is_being_written(ahead):
            if not self._stage_next(run, ahead.staged.copy.metacopy):
                break

    def _stage_next(self, run: Run, metacopies: bool) -> int:
        """Stage the next files of `run`, and begin to write them; return how many."""
        made = list[_Ahead]()
        # The program waits for the first ones, and not for the rest of them.
        most = min(_A_TIME if _are_ahead(run) else _AT_FIRST, max(1, 2 * run.count))
        try:
            self._stage_from(run, most, metacopies, made)
        finally:
            unsafe = [ahead for ahead in made if not ahead.staged.safe]
            if unsafe and self._syncing is not None:
                self._syncing.begin(unsafe)
        return len(made)

    def _stage_from(self, first: Run, most: int, metacopies: bool, made: list[_Ahead]) -> None:
        """Stage at most so many files of the run `first`, and of those that follow it."""
        table, run, held = self._state.table, first, None
        try:
            for _ in range(_AT_ONCE):
                if len(made) == most or _is_far_enough(first):
                    return
                if run.front + 1 < len(run.names):
                    front = run.front
                    ahead = self._stage(first, run, metacopies)
                    if ahead is not None:
                        made.append(ahead)
                    elif run.front == front:
                        return
                    continue
                if run.then is None and _count_dirs(first) >= DIRS:
                    return
                then = self._next_run(run)
                if held is not None:
                    table.forget(held.nodeid, 1)
                    held = None
                if then is None:
                    return
                run, held = then, then.parent
        finally:
            if held is not None:
                table.forget(held.nodeid, 1)

    def _next_run(self, run: Run) -> Run | None:
        """Return what follows `run`, with a reference to its directory; None if nothing does.

        A copy that is staged keeps the directory, but there may be none in it.
        """
        state, then = self._state, run.then
        if then is not None and state.table.hold(then.parent):
            return then
        run.then = then = None
        if run.is_last:
            return None
        d = next_dir(state, run.parent, is_sorted=run.is_sorted)
        while d is not None:
            after = None
            try:
                listing = listing_of(state, d)
                if listing is not None and not self._runs.has_come(d):
                    then = run.expect(d, listing)
                    self._runs.expect(then)
                    return then
                after = next_dir(state, d, is_sorted=run.is_sorted)
            finally:
                if then is None:
                    state.table.forget(d.nodeid, 1)
            d = after
        run.is_last = True
        return None

    def _has_room(self, run: Run) -> bool:
        """Tell whether one more copy may be ahead; those that `run` will not use make room."""
        while len(self._staged) >= MOST:
            node, oldest = next(iter(list(self._staged.items())), (None, None))
            if node is None or oldest is None:
                break
            if oldest.place > oldest.run.at and oldest.run in run.chain():
                return False
            self._drop(node)
        return True

    def _is_due(self, run: Run) -> bool:
        """Tell whether the next files of `run` are to be staged, of which there are `_A_TIME`."""
        if run.count < RUN or _are_ahead(run) > MOST - _A_TIME:
            return False
        if _is_far_enough(run):
            return False
        *_, last = run.chain()
        if last.front + 1 < len(last.names):
            return True
        return not last.is_last and _count_dirs(run) < DIRS

    def _stage(self, first: Run, run: Run, metacopies: bool) -> _Ahead | None:
        """Stage the next file of `run`, which is `first` or follows it; None if nothing was done.

        The front of `run` stays where it is if there is no room for a copy.
        """
        parent, name = run.parent, run.names[run.front + 1]
        run.front += 1
        loaded = parent.loaded
        if loaded is None or loaded.find(name) is not LOWER:
            return None
        if loaded.lower[name] & TYPE_MASK != DT_REG:
            return None
        found = lookup(self._state, parent, name)
        if found is None:
            return None
        node, st = found
        made = None
        try:
            if (
                type(node) is File
                and st.st_nlink == 1
                and node.found_size > 0
                and (metacopies or node.found_size <= LARGEST)
                and node is not self._held
                and not self._takes_over(run, node)
            ):
                if self._has_room(first):
                    made = self._make(run, node, st, metacopies)
                else:
                    run.front -= 1
        finally:
            if made is None:  # a copy keeps the inode
                self._state.table.forget(node.nodeid, 1)
        return made

    def _takes_over(self, run: Run, node: File) -> bool:
        """Let `run` have the copy of `node` that an earlier run of its directory staged, if any.

        That run is no longer in the chain: a directory before it, where nothing is staged, was
        forgotten, and found again as another inode.
        """
        ahead = self._staged.get(node)
        if ahead is None:
            return False
        ahead.run, ahead.place = run, run.front
        run.done += 1
        return True

    def _make(self, run: Run, node: File, st: os.stat_result, metacopies: bool) -> _Ahead | None:
        writable = self._writable
        with writable.copy_locks.holding(node.nodeid):
            if in_upper(node) or node.unlinked or node in self._staged:
                return None
            copy = plan_copy(self._state, writable, node, None, st=st, metadata_only=metacopies)
            if copy.protected:
                return None
            ahead = _Ahead(stage_copy(copy, stay=True), run, run.front)
            self._staged[node] = ahead
            run.done += 1
        return ahead

    # -- in the thread --

    def _serve(self) -> None:
        left = IDLE_S
        while not self._closed.wait(left):
            with self._turn:
                left = self._used + IDLE_S - time.monotonic()
                if left <= 0:
                    self._runs.clear()
                    self._discard_all()
                    self._ended.set()
                    return
        self._ended.set()


def work_ahead(state: State, start: Start) -> None:
    """Read directories ahead, and stage copies where they are whole and wait for the disk."""
    state.ahead = ReadAhead(start)
    writable, config = state.writable, state.config
    if writable is None or not state.layers_immutable or config.volatile:
        return
    if filesystem_type(writable.work.fd) not in _IN_MEMORY:
        writable.ahead = StageAhead(state, writable, start)


def _are_ahead(run: Run | None) -> int:
    """Return how many files of `run`, and of those that follow it, are ahead of the program."""
    return 0 if run is None else sum(each.ahead for each in run.chain())


def _count_dirs(run: Run) -> int:
    """Return how many directories `run` and those that follow it are."""
    return sum(1 for _ in run.chain())


def _is_far_enough(run: Run) -> bool:
    """Tell whether enough is ahead in directories where the program may not go after `run`."""
    return not run.was_expected and _are_ahead(run.then) >= BEYOND


def _is_as_it_was(copy: Copy) -> bool:
    """Tell whether the lower file of `copy` is the same; somebody may change it from outside."""
    (fd, name), before = copy.source, copy.st
    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if st.st_ctime_ns == before.st_ctime_ns and st.st_ino == before.st_ino:
        return True
    copy.node.listed = None
    return False
