"""Mounts for tests: a union through `mount.pyunion`, or kernel overlayfs.

A union is served by a child process that this module starts in the foreground
(`python -m mount_tools.helper.main -f`), never by the test's own process: a
test that touches a mount it serves itself would wait for itself for ever.
Every wait here has a deadline.  When a `with` block ends, the mount is gone,
its process has ended with status 0, and its log held no error; otherwise the
test fails with that log in the message.

    with mounted([lower], upper, work) as root:
        (root / "file").write_text("x")

`UNIONFS_TEST_TRANSPORT` chooses the transport of every union mounted here
(default: auto).  Without a usable FUSE the tests skip and say why, or fail
under `UNIONFS_REQUIRE_FUSE=1`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mount_tools.mount.holders import holders
from mount_tools.mount.table import device_on
from tests.helpers.stuck import waiting_processes

REPOSITORY = Path(__file__).resolve().parents[2]

# Generous: a disk with much to write can keep a sync at the end of a mount for a minute.  A
# healthy mount needs a fraction of a second.
DEADLINE = 120.0

# Seconds in which a process nearly always ends after umount(2).
SOON = 2.0

Layer = str | bytes | Path


# `make check` sets it: no test mounts, and none needs to be root.
QUICK = os.environ.get("PYUNION_TEST_QUICK") == "1"


# -- is FUSE here? --


def fuse_unavailable() -> str:
    """Return why this process cannot mount FUSE, or an empty string if it can."""
    if QUICK:
        return "PYUNION_TEST_QUICK=1 leaves out what mounts"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse (modprobe fuse)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened by this user"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "fusermount3 is not installed and this user is not root"
    return ""


FUSE_AVAILABLE = not fuse_unavailable()


def require_fuse() -> None:
    """Skip the running test without FUSE; fail it under UNIONFS_REQUIRE_FUSE=1."""
    require(not fuse_unavailable(), fuse_unavailable())


def require_root() -> None:
    """Skip the running test without root; fail it under UNIONFS_REQUIRE_FUSE=1."""
    require(os.geteuid() == 0 and not QUICK, "only root can do this")


def require(condition: bool, reason: str) -> None:
    """Skip the running test for `reason` unless `condition`, or fail where all must run."""
    if condition:
        return
    if os.environ.get("UNIONFS_REQUIRE_FUSE") == "1":
        pytest.fail(f"UNIONFS_REQUIRE_FUSE=1, but {reason}")
    pytest.skip(reason)


# -- waiting and looking --


def wait_until(condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Return as soon as `condition()` holds; fail, naming `what`, after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {deadline:.0f} s in vain for {what}\n{waiting_processes()}")
        time.sleep(0.005)


def mount_type(directory: Path) -> str | None:
    """Return the type of the filesystem mounted on `directory`, or None without one.

    Reads the mount table only, so a dead or stuck mount cannot hang the test.
    """
    wanted = os.fsencode(directory)
    found = None
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split(b" ")
        path = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), fields[4])
        if path == wanted:
            found = fields[fields.index(b"-") + 1].decode()
    return found


def run(
    *command: Layer,
    check: bool = True,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = DEADLINE,
) -> subprocess.CompletedProcess[bytes]:
    """Run `command`, capturing its output; fail the test if it fails and `check` is true."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=env, cwd=cwd, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        pytest.fail(f"{command!r} exited {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done


def helper_environment() -> dict[str, str]:
    """Return an environment in which a child process imports this checkout."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def helper_command(*arguments: Layer) -> list[Layer]:
    """Return the command line of `mount.pyunion` with `arguments`."""
    return [sys.executable, "-m", "mount_tools.helper.main", *arguments]


def layer_options(
    lowers: Sequence[Layer], upper: Layer | None = None, work: Layer | None = None
) -> bytes:
    """Return `lowerdir=…,upperdir=…,workdir=…` for these directories, topmost lower first."""

    def escaped(path: Layer, special: bytes) -> bytes:
        return re.sub(rb"([" + special + rb"])", rb"\\\1", os.fsencode(path))

    words = [b"lowerdir=" + b":".join(escaped(lower, rb"\\,:") for lower in lowers)]
    if upper is not None:
        words.append(b"upperdir=" + escaped(upper, rb"\\,"))
    if work is not None:
        words.append(b"workdir=" + escaped(work, rb"\\,"))
    return b",".join(words)


# -- the union --


@dataclass
class Union:
    """A mounted union and the process that serves it."""

    root: Path
    process: subprocess.Popen[bytes]
    log_file: Path
    quiet: bool = True
    ended: bool = field(default=False, init=False)

    @property
    def pid(self) -> int:
        """The process that serves the mount."""
        return self.process.pid

    def log(self) -> str:
        """Return all the serving process has logged so far."""
        return self.log_file.read_text(errors="replace")

    def unmount(self) -> None:
        """Unmount, wait for the process, and fail on any trace of trouble.  Idempotent.

        A file still open on the mount makes umount(8) say "busy"; that is
        waited for, since the exit of a killed child closes its files late.
        """
        if self.ended:
            return
        self.ended = True
        last = b""
        device = device_on(str(self.root))

        def unmounted() -> bool:
            nonlocal last
            done = run(*unmount_command(), self.root, check=False)
            last = done.stderr
            return done.returncode == 0 or mount_type(self.root) is None

        try:
            wait_until(unmounted, f"umount {self.root}", 10)
        except BaseException:
            self._force_end()
            pytest.fail(f"{self.root} does not unmount: {last.decode()}\n{self.log()}")
        try:
            status = self._wait_for_end(device)
        except BaseException:
            held = ", ".join(map(str, holders(device) if device else []))
            self._force_end()
            pytest.fail(
                f"mount.pyunion outlives its mount {self.root}; mounted elsewhere: {held or 'no'}\n"
                f"{self.log()}"
            )
        if status != 0:
            pytest.fail(f"mount.pyunion ended with status {status}\n{self.log()}")
        if self.quiet and re.search(r"ERROR|CRITICAL|Traceback|Warning:", self.log()):
            pytest.fail(f"mount.pyunion logged an error\n{self.log()}")

    def _wait_for_end(self, device: str | None) -> int:
        """Return the exit status of the process, which ends with the last mount of `device`.

        A test that runs at the same time in another process may make a private mount
        namespace.  That copies every mount of this one, and keeps the copies when umount(2)
        removes the originals.  So the copies are removed too, except those of the serving
        process, which would be a fault of its own.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(SOON)

        def ended() -> bool:
            for holder in holders(device) if device else []:
                if holder.pid != self.pid:
                    inside = f"--mount=/proc/{holder.pid}/ns/mnt"
                    run("nsenter", inside, "umount", "-l", holder.mount_point, check=False)
            return self.process.poll() is not None

        wait_until(ended, f"the end of the process of {self.root}", DEADLINE)
        return self.process.wait()

    def crash(self) -> None:
        """Kill the serving process as a power cut would, and clear its dead mount away."""
        self._force_end()

    def _force_end(self) -> None:
        self.ended = True
        self.process.kill()
        self.process.wait(DEADLINE)
        run(*unmount_command(), "-l" if os.geteuid() == 0 else "-z", self.root, check=False)


def unmount_command() -> list[str]:
    """Return the command that unmounts a FUSE mount of this user."""
    return ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]


@contextlib.contextmanager
def mounted_union(
    lowers: Sequence[Layer],
    upper: Layer | None = None,
    work: Layer | None = None,
    options: Sequence[str] = (),
    *,
    at: Path | None = None,
    quiet: bool = True,
    runner: Sequence[Layer] = (),
) -> Iterator[Union]:
    """Mount a union and yield its `Union`, for tests that need the process or its log.

    `options` are words of `-o`, already escaped.  `at` is the mount point; a
    fresh directory without it.  With `quiet` false, errors in the log are no
    failure: for tests that provoke them.  `runner` is a command that runs the helper, by
    execve(2).
    """
    require_fuse()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyunion-test-")))
        scratch.chmod(0o755)  # ordinary users must reach the mount
        root = (at or scratch / "merged").resolve()
        root.mkdir(exist_ok=True)
        log_file = scratch / "log"
        words = [layer_options(lowers, upper, work), *(word.encode() for word in options)]
        if transport := os.environ.get("UNIONFS_TEST_TRANSPORT"):
            words.append(f"transport={transport}".encode())
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [*runner, *helper_command("-f", "-o", b",".join(words), root)],
                env=helper_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        union = Union(root, process, log_file, quiet)
        try:
            wait_until(
                lambda: mount_type(root) == "fuse.pyunion" or process.poll() is not None,
                f"{root} to be mounted",
            )
            if process.poll() is not None:
                pytest.fail(f"mount.pyunion ended with {process.returncode}:\n{union.log()}")
            yield union
        except BaseException:
            # The test has failed already; leave nothing mounted, and let that error through.
            if not union.ended:
                union.crash()
            raise
        union.unmount()


@contextlib.contextmanager
def mounted(
    lowers: Sequence[Layer],
    upper: Layer | None = None,
    work: Layer | None = None,
    options: Sequence[str] = (),
    *,
    at: Path | None = None,
    quiet: bool = True,
) -> Iterator[Path]:
    """Mount a union and yield its directory; see `mounted_union`."""
    with mounted_union(lowers, upper, work, options, at=at, quiet=quiet) as union:
        yield union.root


# -- the oracle --


@contextlib.contextmanager
def kernel_overlay(
    lowers: Sequence[Layer],
    upper: Layer | None = None,
    work: Layer | None = None,
    options: Sequence[str] = (),
    *,
    at: Path | None = None,
) -> Iterator[Path]:
    """Mount kernel overlayfs on the same directories and yield the mount point.

    Skips where the kernel or the user may not.  A mount the kernel refuses
    fails the test with the kernel's message.
    """
    require_root()
    kernel_knows = b"overlay" in Path("/proc/filesystems").read_bytes()
    require(kernel_knows, "this kernel has no overlayfs")
    with tempfile.TemporaryDirectory(prefix="overlay-test-") as scratch:
        Path(scratch).chmod(0o755)  # ordinary users must reach the mount
        root = (at or Path(scratch) / "merged").resolve()
        root.mkdir(exist_ok=True)
        words = b",".join([layer_options(lowers, upper, work), *(w.encode() for w in options)])
        run("mount", "-t", "overlay", "overlay", "-o", words, root)
        try:
            yield root
        finally:
            done = run("umount", root, check=False)
            if done.returncode != 0:
                run("umount", "-l", root, check=False)
                pytest.fail(f"kernel overlay does not unmount: {done.stderr.decode()}")
