"""The direct transport on real mounts: what it may not do to a mount, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import (
    DEADLINE,
    REPOSITORY,
    helper_environment,
    mount_type,
    mounted_union,
    run,
    wait_until,
)
from tests.helpers.processes import end

SLOW = 20
"""More requests than a connection is likely to have under way at once."""


# What a mount that nobody serves any more answers; ECANCELED is explained in
# tests/faults/test_kill.py.
DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED)


class Odd:
    """A mounted `odd_union`: its directories, its process, and what to tell it."""

    def __init__(self, base: Path, io_uring: str) -> None:
        self.base = base
        self.point = base / "merged"
        for name in ("lower", "upper", "work", "merged"):
            (base / name).mkdir()
        (base / "gate").touch()
        (base / "lower/file").write_text("text")
        (base / "lower/endless").touch()
        for number in range(SLOW):
            (base / f"lower/slow{number}").write_text(str(number))
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.unionfs.transports.odd_union",
                io_uring,
                base,
                self.point,
            ],
            env=helper_environment(),
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: mount_type(self.point) is not None, "the odd union to be mounted")
        except BaseException:
            self.clear()
            raise

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> str:
        """Unmount; return what went to standard error."""
        run("umount", self.point)
        _, said = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0
        return said

    def clear(self) -> None:
        (self.base / "gate").unlink(missing_ok=True)
        if self.process.poll() is None:
            end(self.process)
            run("umount", "-l", self.point, check=False)


@pytest.fixture
def odd(tmp_path: Path, io_uring: str) -> Iterator[Odd]:
    union = Odd(tmp_path, io_uring)
    try:
        yield union
    finally:
        union.clear()


def open_child(path: Path) -> subprocess.Popen[bytes]:
    """Start a process that opens `path` and then ends."""
    return subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def is_in_kernel(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether `process` waits for an answer of FUSE."""
    return b"fuse" in Path(f"/proc/{process.pid}/wchan").read_bytes() or (
        b"request_wait" in Path(f"/proc/{process.pid}/wchan").read_bytes()
    )


def test_a_bug_is_an_error_and_not_the_end(odd: Odd) -> None:
    for name in ("bug", "strange"):
        with pytest.raises(OSError) as caught:
            (odd.point / name).stat()
        assert caught.value.errno == errno.EIO
    assert (odd.point / "file").read_text() == "text"
    said = odd.end()
    assert "LOOKUP failed by a bug in PyUnion" in said
    assert "KeyError: b'bug'" in said


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """A list of processes that are ended with the test, after what they wait for."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
    for child in started:
        child.wait(DEADLINE)


def test_slow_requests_delay_nobody(children: list[subprocess.Popen[bytes]], odd: Odd) -> None:
    """All of them wait at the gate while others are answered."""
    children += [open_child(odd.point / f"slow{number}") for number in range(SLOW)]
    for child in children:
        wait_until(lambda child=child: is_in_kernel(child), "the open to wait")  # type: ignore[misc]
    # From every CPU, since each may have a queue of its own.
    for cpu in os.sched_getaffinity(0):
        done = run("taskset", "-c", str(cpu), "cat", odd.point / "file", timeout=DEADLINE)
        assert done.stdout == b"text"
        run("taskset", "-c", str(cpu), "touch", odd.point / f"new{cpu}", timeout=DEADLINE)
    assert all(child.poll() is None for child in children)
    (odd.base / "gate").unlink()
    assert [child.wait(DEADLINE) for child in children] == [0] * SLOW
    assert odd.end() == ""


def test_a_killed_caller_stops_a_long_operation(
    children: list[subprocess.Popen[bytes]], odd: Odd
) -> None:
    """And only one that is killed: a signal that is handled disturbs nothing."""
    script = "trap : USR1; exec 3< endless"
    child = subprocess.Popen(["sh", "-c", script], cwd=odd.point)
    children.append(child)
    wait_until(lambda: is_in_kernel(child), "the open to wait")
    child.send_signal(signal.SIGUSR1)
    assert (odd.point / "file").read_text() == "text"
    # It may just be on its way to wait on.
    wait_until(lambda: is_in_kernel(child), "the open to wait on")
    child.kill()
    child.wait(DEADLINE)
    assert odd.end() == ""


def test_the_kernel_forgets_what_it_is_told_to(odd: Odd) -> None:
    file = odd.point / "file"
    os.chmod(file, 0o600)
    before = file.stat()
    real = odd.base / "upper/file"
    os.chmod(real, 0o640)
    assert file.stat().st_mode == before.st_mode
    odd.tell(f"forget_attributes {before.st_ino}")
    assert file.stat().st_mode & 0o777 == 0o640
    odd.tell(f"forget_inode {before.st_ino}")
    odd.tell("forget_name file")
    odd.tell("forget_name nobody-knows-it")
    odd.tell("forget_attributes 123456789")
    assert file.read_text() == "text"
    assert odd.end() == ""


# -- the end of a connection --


@pytest.fixture
def options(io_uring: str) -> tuple[str, str]:
    return ("transport=dev_fuse", f"io_uring={io_uring}")


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[Path]:
    """Where the kernel shows its FUSE connections, by the minor number of their st_dev."""
    place = tmp_path / "connections"
    place.mkdir()
    run("mount", "-t", "fusectl", "none", place)
    yield place
    run("umount", place)


def test_an_aborted_connection_ends_the_daemon(
    layers: HandmadeLayers, options: tuple[str, str], connections: Path
) -> None:
    layers.layer()
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        file = os.open(union.root / "file", os.O_RDWR | os.O_CREAT)
        number = os.minor(union.root.stat().st_dev)
        (connections / f"{number}/abort").write_text("1")
        with pytest.raises(OSError) as caught:
            os.stat(union.root / "other")
        assert caught.value.errno in DEAD
        os.close(file)
        assert union.process.wait(DEADLINE) == 0
        assert "the connection was aborted" in union.log()


def test_a_killed_daemon_leaves_errors_and_a_sound_upper(
    layers: HandmadeLayers, options: tuple[str, str]
) -> None:
    layers.layer()
    with mounted_union(layers.stack, layers.upper, layers.work, options, quiet=False) as union:
        with open(union.root / "file", "w") as file:
            file.write("before")
            file.flush()
            union.process.kill()
            union.process.wait(DEADLINE)
            with pytest.raises(OSError) as caught:
                os.stat(union.root / "other")
            assert caught.value.errno in DEAD
            with pytest.raises(OSError):
                os.fsync(file.fileno())
        union.crash()
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        assert (union.root / "file").read_text() == "before"


def test_a_detached_mount_serves_whoever_has_files_open(
    layers: HandmadeLayers, options: tuple[str, str]
) -> None:
    layers.layer()
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        directory = os.open(union.root, os.O_RDONLY)
        file = os.open("file", os.O_RDWR | os.O_CREAT, dir_fd=directory)
        run("umount", "-l", union.root)
        assert os.pwrite(file, b"late", 0) == 4
        os.mkdir("later", dir_fd=directory)
        assert sorted(os.listdir(directory)) == ["file", "later"]
        assert union.process.poll() is None
        os.close(file)
        os.close(directory)
        assert union.process.wait(DEADLINE) == 0
        union.ended = True
    assert (layers.upper / "file").read_bytes() == b"late"


def test_unmounting_amid_requests(layers: HandmadeLayers, options: tuple[str, str]) -> None:
    """Those under way are answered, whatever the answer; the daemon ends in peace."""
    layers.layer()

    def keep_busy(top: Path, name: str) -> int:
        for number in range(100_000):
            try:
                fd = os.open(top / f"{name}{number}", os.O_RDWR | os.O_CREAT | os.O_EXCL)
                os.write(fd, b"x")
                os.close(fd)
                os.unlink(top / f"{name}{number}")
            except OSError:
                return number
        return -1

    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        with ThreadPoolExecutor(4) as pool:
            # In a subdirectory, so that what lies beneath the mount point has none of it.
            top = union.root / "sub"
            top.mkdir()
            busy = [pool.submit(keep_busy, top, name) for name in "abcd"]
            wait_until(lambda: sum(1 for _ in layers.upper.glob("sub/*")) > 0, "some work")
            run("umount", "-l", union.root)
            assert all(future.result() >= 0 for future in busy)
        assert union.process.wait(DEADLINE) == 0
        union.ended = True
        assert "ERROR" not in union.log()


@pytest.mark.parametrize(("sched", "policy"), [("idle", os.SCHED_IDLE), ("normal", os.SCHED_OTHER)])
def test_all_threads_have_the_policy_that_was_asked_for(
    layers: HandmadeLayers, sched: str, policy: int
) -> None:
    """Also the workers that start later, and whatever io_uring=auto means here."""
    options = [f"sched={sched}", "transport=dev_fuse"]
    layers.layer()
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        fd = os.open(union.root / "synced", os.O_WRONLY | os.O_CREAT)
        os.fsync(fd)  # a worker does it
        os.close(fd)
        tasks = os.listdir(f"/proc/{union.pid}/task")
        names = {Path(f"/proc/{union.pid}/task/{task}/comm").read_text() for task in tasks}
        assert len(tasks) > 2, names
        wait_until(
            lambda: {os.sched_getscheduler(int(task)) for task in tasks} == {policy},
            "all threads to have the policy",
        )


@pytest.fixture
def busy_cpus() -> Iterator[None]:
    """Two processes for each CPU that never wait, each in a session of its own."""
    many = 2 * len(os.sched_getaffinity(0))
    command = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(many):
            process = stack.enter_context(subprocess.Popen(command, start_new_session=True))
            stack.callback(process.kill)
        yield


def idle_is_free_in_a_session() -> bool:
    code = (
        "import sys; from unionfs.syscalls.scheduling import idle_is_free as f; sys.exit(not f())"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, start_new_session=True, check=False).returncode == 0


@pytest.mark.usefixtures("busy_cpus")
def test_idle_is_left_on_busy_cpus(layers: HandmadeLayers, io_uring: str) -> None:
    """An idle thread would wait for the next tick at each request."""
    if not idle_is_free_in_a_session():
        pytest.skip("sessions have no scheduling groups of their own here")
    options = ["transport=dev_fuse", f"io_uring={io_uring}"]
    layers.layer()
    with mounted_union(
        layers.stack, layers.upper, layers.work, options, runner=["setsid"]
    ) as union:
        wait_until(lambda: "SCHED_IDLE" in union.log(), "the policy SCHED_IDLE")
        number = count()

        def is_left() -> bool:
            os.path.lexists(union.root / f"none{next(number)}")
            return os.sched_getscheduler(union.pid) == os.SCHED_OTHER

        wait_until(is_left, "the policy SCHED_OTHER")
