"""File locks, and programs run from the tree."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cases import opened, refused, tree
from tests.conformance.tree import file
from tests.helpers.mounts import DEADLINE
from tests.helpers.security import GROUP_ID, USER_ID

SHELL = Path(os.path.realpath("/bin/sh")).read_bytes()
PROGRAM = file("sh", SHELL, mode=0o755)
SCRIPT = file("script", b"#!/bin/sh\necho ran $1\n", mode=0o755)
EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB
F_OFD_SETLK = 37  # not in the fcntl module of Python 3.11
SHARED = fcntl.LOCK_SH | fcntl.LOCK_NB


# -- locks --


@tree(file("f", b"data"))
def test_flock_excludes_another_descriptor(root: Path) -> None:
    """flock binds the open file: a second one waits until the first is closed."""
    with opened(root / "f", os.O_RDWR) as other:
        with opened(root / "f", os.O_RDWR) as fd:
            fcntl.flock(fd, EXCLUSIVE)
            with refused(errno.EWOULDBLOCK):
                fcntl.flock(other, SHARED)
        fcntl.flock(other, EXCLUSIVE)


@tree(file("f", b"data"))
def test_flock_is_shared_by_readers(root: Path) -> None:
    """Shared locks go together, an exclusive one with none of them."""
    with (
        opened(root / "f", os.O_RDONLY) as one,
        opened(root / "f", os.O_RDONLY) as two,
        opened(root / "f", os.O_RDONLY) as three,
    ):
        fcntl.flock(one, SHARED)
        fcntl.flock(two, SHARED)
        with refused(errno.EWOULDBLOCK):
            fcntl.flock(three, EXCLUSIVE)


@tree(file("f", b"data"))
def test_flock_holds_over_copy_up(root: Path) -> None:
    """A lock taken before the first write binds those who open afterwards."""
    with opened(root / "f", os.O_RDONLY) as early:
        fcntl.flock(early, EXCLUSIVE)
        with opened(root / "f", os.O_RDWR) as late:
            os.write(late, b"D")
            with refused(errno.EWOULDBLOCK):
                fcntl.flock(late, SHARED)


@tree(file("f", b"0123456789"))
def test_record_locks_exclude_another_process(root: Path) -> None:
    """fcntl locks bind processes and ranges."""
    with opened(root / "f", os.O_RDWR) as fd:
        fcntl.lockf(fd, EXCLUSIVE, 5, 0)
        command = (
            "import fcntl,os,sys\n"
            "fd = os.open(sys.argv[1], os.O_RDWR)\n"
            "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5)\n"
            "try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0)\n"
            "except BlockingIOError: sys.exit(7)\n"
        )
        done = run("/usr/bin/env", "python3", "-S", "-c", command, str(root / "f"))
        assert done.returncode == 7, done.stderr


@tree(file("f", b"0123456789"))
def test_open_file_description_locks(root: Path) -> None:
    """OFD locks bind open files within one process."""
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 4, 0)
    with opened(root / "f", os.O_RDWR) as one, opened(root / "f", os.O_RDWR) as two:
        fcntl.fcntl(one, F_OFD_SETLK, lock)
        with refused(errno.EAGAIN):
            fcntl.fcntl(two, F_OFD_SETLK, lock)


# -- programs --


def run(*command: str | Path, user: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run to the end, as root or as `user` in its own group."""
    group = None if user is None else GROUP_ID
    return subprocess.run(
        command, capture_output=True, timeout=DEADLINE, check=False, user=user, group=group
    )


@tree(PROGRAM, SCRIPT)
def test_run_a_program_and_a_script(root: Path) -> None:
    """A binary and a script of the tree run."""
    assert run(root / "sh", "-c", "echo ran").stdout == b"ran\n"
    assert run(root / "script", "it").stdout == b"ran it\n"


@tree(PROGRAM, SCRIPT)
def test_run_after_a_change(root: Path) -> None:
    """Changed (copied up) they run again, the script with its new text."""
    os.chmod(root / "sh", 0o700)
    (root / "script").write_bytes(b"#!/bin/sh\necho changed\n")
    assert run(root / "sh", "-c", "echo ran").stdout == b"ran\n"
    assert run(root / "script").stdout == b"changed\n"


@tree(PROGRAM)
def test_run_a_copy_just_written(root: Path) -> None:
    """A program written, made executable and run at once."""
    shutil.copyfile(root / "sh", root / "copy")
    with refused(errno.EACCES):
        run(root / "copy")
    os.chmod(root / "copy", 0o755)
    assert run(root / "copy", "-c", "echo ran").stdout == b"ran\n"


@tree(file("sh", SHELL, mode=0o711), file("none", SHELL, mode=0o644))
def test_run_as_a_user(root: Path) -> None:
    """A user runs what may be executed though not read, and nothing else."""
    assert run(root / "sh", "-c", "id -u", user=USER_ID).stdout == b"%d\n" % USER_ID
    with refused(errno.EACCES):
        run(root / "none", user=USER_ID)


@tree(file("id", Path("/usr/bin/id").read_bytes(), mode=0o6755, uid=77, gid=78))
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
def test_suid_program(root: Path, changed: bool) -> None:
    """suid and sgid take effect, over a copy-up that keeps them as well."""
    if changed:
        os.utime(root / "id", ns=(1, 2))
    assert run(root / "id", "-u", user=USER_ID).stdout == b"77\n"
    assert run(root / "id", "-g", user=USER_ID).stdout == b"78\n"


@pytest.fixture
def running(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The tree's shell, running and waiting for input."""
    with subprocess.Popen(
        [root / "sh", "-c", "echo up; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        process.send_signal(signal.SIGKILL)


@tree(PROGRAM)
@pytest.mark.usefixtures("running")
def test_write_to_a_running_program(root: Path) -> None:
    """A running program's file is not opened for writing: ETXTBSY."""
    with refused(errno.ETXTBSY), opened(root / "sh", os.O_WRONLY):
        pass
    with refused(errno.ETXTBSY):
        os.truncate(root / "sh", 0)


@tree(PROGRAM)
@pytest.mark.usefixtures("running")
def test_open_truncating_a_running_program(root: Path) -> None:
    """Nor is it truncated by an open for reading."""
    size = (root / "sh").stat().st_size
    with refused(errno.ETXTBSY), opened(root / "sh", os.O_RDONLY | os.O_TRUNC):
        pass
    assert (root / "sh").stat().st_size == size


@tree(PROGRAM)
def test_open_truncating_a_program_that_has_run(root: Path) -> None:
    assert run(root / "sh", "-c", "echo ran").stdout == b"ran\n"
    os.rename(root / "sh", root / "moved")
    with opened(root / "moved", os.O_RDONLY | os.O_TRUNC):
        assert (root / "moved").stat().st_size == 0


@tree(PROGRAM)
def test_replace_a_running_program(root: Path, running: subprocess.Popen[bytes]) -> None:
    """A running program's file is changed in its attributes, renamed over and removed."""
    os.chmod(root / "sh", 0o700)
    (root / "new").write_bytes(b"new")
    os.rename(root / "new", root / "sh")
    os.unlink(root / "sh")
    out, _ = running.communicate(b"\n", timeout=DEADLINE)
    assert (running.returncode, out) == (0, b"")


@tree(PROGRAM)
def test_run_what_is_open_for_writing(root: Path) -> None:
    """A file open for writing does not run: ETXTBSY."""
    with opened(root / "sh", os.O_RDWR), refused(errno.ETXTBSY):
        run(root / "sh", "-c", "true")
    assert run(root / "sh", "-c", "echo ran").stdout == b"ran\n"
