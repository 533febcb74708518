"""A file that is open for reading when it is first written to stays one inode.

Locks, watches, attributes, data and re-opening agree through every descriptor, for a
program (ELF) as for any other file: which real file the kernel reads by itself must not
show.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import sqlite3
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cases import opened, refused, tree
from tests.conformance.tree import file
from tests.helpers.calls import next_tick
from tests.helpers.mounts import DEADLINE, wait_until
from tests.helpers.processes import is_at_end

SIZE = 64 << 10
BINARY = Path(os.path.realpath("/bin/sh")).read_bytes().ljust(SIZE, b"\0")
TEXT = (b"a line of text\n" * SIZE)[:SIZE]
FILES = tree(file("elf", BINARY, mode=0o755), file("text", TEXT, mode=0o644))
KINDS = pytest.mark.parametrize("name", ["elf", "text"])
EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB
IN_MODIFY, IN_ATTRIB, IN_DELETE_SELF = 0x2, 0x4, 0x400


def make_database() -> bytes:
    """Return a SQLite database of 64 KiB or more, with one table."""
    with tempfile.NamedTemporaryFile() as made:
        with contextlib.closing(sqlite3.connect(made.name)) as database:
            database.execute("create table t (number integer primary key, text)")
            rows = [(number, "x" * 100) for number in range(1000)]
            database.executemany("insert into t values (?, ?)", rows)
            database.execute("create index i on t (text, number)")
            database.commit()
        return Path(made.name).read_bytes()


# -- locks --


@FILES
@KINDS
def test_only_one_descriptor_has_the_lock(root: Path, name: str) -> None:
    """flock through the reader from before the copy-up binds the writer, and the reverse."""
    with opened(root / name, os.O_RDONLY) as reader, opened(root / name, os.O_RDWR) as writer:
        os.write(writer, b"new")
        for holder, other in ((reader, writer), (writer, reader)):
            fcntl.flock(holder, EXCLUSIVE)
            with refused(errno.EWOULDBLOCK):
                fcntl.flock(other, EXCLUSIVE)
            fcntl.flock(holder, fcntl.LOCK_UN)


@FILES
@KINDS
def test_only_one_process_has_the_record_lock(root: Path, name: str) -> None:
    with opened(root / name, os.O_RDONLY) as reader:
        fcntl.lockf(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
        child = os.fork()
        if child == 0:
            try:
                fd = os.open(root / name, os.O_RDWR)
                fcntl.lockf(fd, EXCLUSIVE)
            except BlockingIOError:
                os._exit(3)
            finally:
                os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


# -- watches --


@contextlib.contextmanager
def watched(path: Path) -> Iterator[int]:
    """Yield an fd of inotify that tells what is done to the file at `path`."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mask = IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF
        assert libc.inotify_add_watch(fd, os.fsencode(path), mask) > 0
        yield fd
    finally:
        os.close(fd)


def events(fd: int) -> set[int]:
    """Return the kinds of events that have come; they come before the call returns."""
    found, at = set(), 0
    with contextlib.suppress(BlockingIOError):
        data = os.read(fd, 4096)
        while at < len(data):
            _, mask, _, length = struct.unpack_from("iIII", data, at)
            found.add(mask)
            at += 16 + length
    return found


@FILES
@KINDS
def test_a_watch_is_told_of_every_write(root: Path, name: str) -> None:
    """Before the copy-up, by it, and after it."""
    with opened(root / name, os.O_RDONLY), watched(root / name) as watch:
        for number in range(2):
            with opened(root / name, os.O_WRONLY | os.O_APPEND) as writer:
                os.write(writer, b"%d" % number)
            assert IN_MODIFY in events(watch)
        os.chmod(root / name, 0o600)
        assert IN_ATTRIB in events(watch)


@FILES
@KINDS
def test_tail_shows_what_is_appended(root: Path, name: str) -> None:
    with (
        subprocess.Popen(
            ["tail", "-n0", "-s0.05", "-f", root / name], stdout=subprocess.PIPE
        ) as tail,
        ended(tail),
    ):
        assert tail.stdout is not None
        wait_until(lambda: is_at_end(tail.pid, root / name), "tail to be at the end")
        with opened(root / name, os.O_WRONLY | os.O_APPEND) as writer:
            os.write(writer, b"appended\n")
        assert select.select([tail.stdout], [], [], 20)[0]
        assert tail.stdout.readline() == b"appended\n"


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE)


# -- attributes --


@FILES
@KINDS
def test_a_change_through_the_old_descriptor_shows_by_name(root: Path, name: str) -> None:
    with opened(root / name, os.O_RDONLY) as reader, opened(root / name, os.O_RDWR) as writer:
        os.write(writer, b"new")
        os.fchmod(reader, 0o640)
        os.fchown(reader, 5, 6)
        os.utime(reader, ns=(1, 2))
        os.setxattr(reader, "user.a", b"1")
        for st in (os.stat(root / name), os.fstat(writer), os.fstat(reader)):
            assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o640, 5, 6)
            assert st.st_mtime_ns == 2
        assert os.getxattr(root / name, "user.a") == b"1"


@FILES
@KINDS
def test_the_old_descriptor_shows_what_became_of_the_file(root: Path, name: str) -> None:
    """Its size and links."""
    size = os.stat(root / name).st_size
    with opened(root / name, os.O_RDONLY) as reader:
        with opened(root / name, os.O_WRONLY | os.O_APPEND) as writer:
            os.write(writer, b"more")
        assert os.fstat(reader).st_size == size + 4
        os.link(root / name, root / "link")
        assert os.fstat(reader).st_nlink == 2
        os.truncate(root / name, 10)
        assert os.fstat(reader).st_size == 10
        os.unlink(root / name)
        assert os.fstat(reader).st_nlink == 1
        os.unlink(root / "link")
        assert os.fstat(reader).st_nlink == 0


@FILES
@KINDS
@pytest.mark.parametrize("closes", [False, True])
def test_a_store_through_a_mapping_changes_the_times(root: Path, name: str, closes: bool) -> None:
    """At the latest with msync or close, also for one who had it open before."""
    with opened(root / name, os.O_RDONLY) as reader:
        before = os.fstat(reader)
        next_tick()
        with opened(root / name, os.O_RDWR) as writer:
            os.fstat(writer)
            with mmap.mmap(writer, 0) as view:
                view[:1] = b"x"
                if not closes:
                    view.flush()
                shown = [os.stat(root / name), os.fstat(reader)]
        if closes:
            shown = [os.stat(root / name), os.fstat(reader)]
        for after in shown:
            assert after.st_mtime_ns > before.st_mtime_ns
            assert after.st_ctime_ns > before.st_ctime_ns


# -- data --


@FILES
@KINDS
def test_the_old_descriptor_reads_what_is_written(root: Path, name: str) -> None:
    with opened(root / name, os.O_RDONLY) as reader:
        before = os.pread(reader, 8, 0)
        with opened(root / name, os.O_WRONLY) as writer:
            os.pwrite(writer, b"NEW", 0)
            assert os.pread(reader, 8, 0) == b"NEW" + before[3:]
        os.truncate(root / name, 1)
        assert os.pread(reader, 8, 0) == b"N"
        with opened(root / name, os.O_WRONLY | os.O_TRUNC) as writer:
            os.write(writer, b"other")
        assert os.pread(reader, 8, 0) == b"other"


@FILES
@KINDS
def test_a_file_is_opened_for_writing_after_it_was_read(root: Path, name: str) -> None:
    """rpm opens its database O_RDONLY, then O_RDWR, and uses both."""
    with opened(root / name, os.O_RDONLY) as reader, opened(root / name, os.O_RDWR) as writer:
        os.pwrite(writer, b"page", 4096)
        assert os.pread(reader, 4, 4096) == os.pread(writer, 4, 4096) == b"page"
        os.fsync(writer)
        with opened(root / name, os.O_RDONLY) as again:
            assert os.pread(again, 4, 4096) == b"page"
            assert os.path.sameopenfile(again, reader)


DATABASE = make_database()


@tree(file("db", DATABASE))
def test_a_reader_of_a_database_sees_a_commit(root: Path) -> None:
    """A connection that has pages in its cache, of a file it opened before the copy-up."""
    uri = f"file:{root}/db?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(uri, uri=True)) as reader,
        contextlib.closing(sqlite3.connect(root / "db")) as writer,
    ):
        assert reader.execute("select count(*) from t").fetchone() == (1000,)
        writer.execute("delete from t where number % 2")
        writer.execute("insert into t values (5000, 'new')")
        writer.commit()
        assert reader.execute("select count(*) from t").fetchone() == (501,)
        assert reader.execute("select number from t where text = 'new'").fetchone() == (5000,)
        assert reader.execute("pragma integrity_check").fetchone() == ("ok",)


# -- opening again --


@FILES
@KINDS
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_the_old_descriptor_is_opened_again(root: Path, name: str, flags: int) -> None:
    with opened(root / name, os.O_RDONLY) as reader:
        with opened(root / name, os.O_WRONLY) as writer:
            os.pwrite(writer, b"NEW", 0)
        with opened(f"/dev/fd/{reader}", flags) as again:
            assert os.pread(again, 3, 0) == b"NEW"
            assert os.path.sameopenfile(again, reader)


@tree(file("program", BINARY, mode=0o755))
def test_a_program_is_written_to_after_it_has_run(root: Path) -> None:
    """By one who had it open all the time, beside others who read it."""
    with opened(root / "program", os.O_RDONLY) as reader:
        subprocess.run([root / "program", "-c", ":"], check=True, timeout=DEADLINE)
        with opened(root / "program", os.O_RDWR) as writer:
            os.pwrite(writer, b"NEW", 0)
            fcntl.flock(writer, EXCLUSIVE)
            with refused(errno.EWOULDBLOCK):
                fcntl.flock(reader, EXCLUSIVE)
            assert os.pread(reader, 3, 0) == b"NEW"
