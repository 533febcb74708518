"""What is compared, and how each is mounted.

Decided here and only here: the options.  Each peer gets what its manual offers
for layers that nobody else changes: names and attributes remembered, pages kept
over open, cached directories and symlinks where it can.  PyUnion and overlayfs
run with their defaults.

A daemon stays in the foreground, as our child: so it is known, and can be ended.  It has a
session of its own, as any daemon has, since the scheduler shares the CPUs among sessions.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import floor
from benchmarks.layers import Stack

NATIVE = "native"
KERNEL = "overlayfs"

# Whether the kernel offers io_uring to the mounts to come; `isolation` puts it back.
URING = Path("/sys/module/fuse/parameters/enable_uring")

_CPUCLOCK_SCHED = 2  # <linux/posix-timers.h>

# The mount.pyunion of another checkout, to be measured beside this one.
BEFORE = "PYUNION_BEFORE"

LIVE_WITHIN = 30.0
ENDS_WITHIN = 10.0

_REMEMBERED = "3600"


class Refused(Exception):
    """A subject cannot be mounted, or did not end well; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where one subject is mounted once: over `stack`, at `merged`.

    `writes` says that the tree will be changed, so a plain directory is copied first.
    """

    stack: Stack
    upper: Path
    work: Path
    merged: Path
    log: Path
    writes: bool = True


Command = Callable[[Place, bool], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing to measure.

    `command` gives what mounts it, in the foreground or not; without it the
    subject is a plain directory.  `package` is its Debian package, `serves` says
    that a daemon does, `copies_up` that it can change what lies in a lower,
    `uring` that it needs the kernel's switch for io_uring.  `is_floor` says that it is what
    unions are compared with, and none to be used, `why_not` returns why it is not here,
    empty if it is.
    """

    name: str
    title: str
    command: Command | None = None
    package: str = ""
    uring: bool = False
    serves: bool = True
    copies_up: bool = True
    ours: bool = False
    is_floor: bool = False
    why_not: Callable[[], str] = lambda: ""

    @property
    def is_peer(self) -> bool:
        """Whether it is somebody else's FUSE union."""
        return self.serves and not self.ours and not self.is_floor


# -- the command lines --


def _overlay_options(place: Place, *more: str) -> str:
    words = [f"lowerdir={':'.join(place.stack.layers)}", f"upperdir={place.upper}"]
    return ",".join([*words, f"workdir={place.work}", *more])


def _branches(place: Place) -> str:
    return ":".join([f"{place.upper}=RW", *(f"{layer}=RO" for layer in place.stack.layers)])


def _overlayfs(place: Place, foreground: bool) -> Sequence[str]:
    options = _overlay_options(place)
    return ["mount", "-t", "overlay", "overlay", "-o", options, str(place.merged)]


def _pyunion(*more: str, before: bool = False) -> Command:
    ours = Path(sys.executable).with_name("mount.pyunion")

    def command(place: Place, foreground: bool) -> Sequence[str]:
        program = os.environ[BEFORE] if before else str(ours)
        options = _overlay_options(place, *more)
        return [program, *(["-f"] if foreground else []), "-o", options, str(place.merged)]

    return command


def _fuse_overlayfs(place: Place, foreground: bool) -> Sequence[str]:
    # Its own default time-outs are without end.
    options = _overlay_options(place, "allow_other")
    words = ["-f"] if foreground else []
    return ["fuse-overlayfs", *words, "-o", options, str(place.merged)]


def _unionfs_fuse(place: Place, foreground: bool) -> Sequence[str]:
    options = (
        "cow,hide_meta_files,allow_other,use_ino,kernel_cache,"
        f"entry_timeout={_REMEMBERED},attr_timeout={_REMEMBERED},negative_timeout={_REMEMBERED}"
    )
    words = ["-f"] if foreground else []
    return ["unionfs-fuse", *words, "-o", options, _branches(place), str(place.merged)]


def _mergerfs(place: Place, foreground: bool) -> Sequence[str]:
    # minfreespace: by default it refuses to create where less than 4 GiB are free.
    # fsname: the default names all branches, and 256 are more than mount(2) takes.
    options = (
        "category.create=ff,minfreespace=0,allow_other,fsname=mergerfs,"
        "cache.files=auto-full,cache.readdir=true,cache.symlinks=true,"
        f"cache.entry={_REMEMBERED},cache.attr={_REMEMBERED},cache.negative_entry={_REMEMBERED}"
    )
    words = ["-f"] if foreground else []
    return ["mergerfs", *words, "-o", options, _branches(place), str(place.merged)]


def _floor(*more: str) -> Command:
    def command(place: Place, foreground: bool) -> Sequence[str]:
        words = [*(["-f"] if foreground else []), *more]
        return [str(floor.PROGRAM), *words, *place.stack.layers, str(place.merged)]

    return command


def _floor_python(*more: str, union: bool = False) -> Command:
    there = Path(__file__).parent.parent

    def command(place: Place, foreground: bool) -> Sequence[str]:
        program = ["env", f"PYTHONPATH={there}", sys.executable, "-m", "benchmarks.floor_python"]
        words = [*(["-f"] if foreground else []), *more]
        if union:
            words += ["--upper", str(place.upper), "--work", str(place.work)]
        return [*program, *words, *place.stack.layers, str(place.merged)]

    return command


_least_union = functools.partial(_floor_python, union=True)


def _before() -> Iterator[Subject]:
    """Yield what an earlier PyUnion gives, where the environment names its mount.pyunion."""
    if BEFORE not in os.environ:
        return
    for name, title, state in (("uring", "io_uring", "on"), ("dev", "dev_fuse", "off")):
        yield Subject(
            name=f"before-{name}",
            title=f"before, {title}",
            command=_pyunion("transport=dev_fuse", f"io_uring={state}", before=True),
            uring=state == "on",
            ours=True,
        )


SUBJECTS = (
    *_before(),
    Subject(name=NATIVE, title="plain directory", serves=False),
    Subject(name=KERNEL, title="kernel overlayfs", command=_overlayfs, serves=False),
    Subject(
        name="pyunion-uring",
        title="PyUnion, io_uring",
        command=_pyunion("transport=dev_fuse", "io_uring=on"),
        uring=True,
        ours=True,
    ),
    Subject(
        name="pyunion-dev",
        title="PyUnion, dev_fuse",
        command=_pyunion("transport=dev_fuse", "io_uring=off"),
        ours=True,
    ),
    Subject(
        name="pyunion-pyfuse3",
        title="PyUnion, pyfuse3",
        command=_pyunion("transport=pyfuse3"),
        ours=True,
    ),
    Subject(
        name="fuse-overlayfs",
        title="fuse-overlayfs",
        command=_fuse_overlayfs,
        package="fuse-overlayfs",
    ),
    Subject(
        name="unionfs-fuse",
        title="unionfs-fuse",
        command=_unionfs_fuse,
        package="unionfs-fuse",
    ),
    Subject(
        name="mergerfs",
        title="mergerfs",
        command=_mergerfs,
        package="mergerfs",
        copies_up=False,
    ),
)
FLOORS = tuple(
    Subject(
        name=f"{kind}-{name}",
        title=f"{language}, {title}",
        command=command(*words),
        uring=bool(words),
        is_floor=True,
        why_not=why_not,
    )
    for kind, language, command, why_not in (
        ("floor", "floor in C", _floor, floor.why_not),
        ("floor-python", "floor in Python", _floor_python, lambda: ""),
        ("least-union", "least union in Python", _least_union, lambda: ""),
    )
    for name, title, words in (("uring", "io_uring", ["-u"]), ("dev", "dev_fuse", []))
)
BY_NAME = {subject.name: subject for subject in (*SUBJECTS, *FLOORS)}


# -- mounting --


def _cpu_clock(pid: int) -> int:
    """Return the CPU-time clock of a process, with all its threads (clock_getcpuclockid(3))."""
    return (~pid << 3) | _CPUCLOCK_SCHED


@dataclass
class Mount:
    """A mounted subject, or a plain directory; `daemon` is the process that serves it."""

    root: Path
    daemon: subprocess.Popen[bytes] | None = None

    def cpu_s(self) -> float:
        """Return the seconds of processor time that the daemon has taken until now."""
        return 0.0 if self.daemon is None else time.clock_gettime(_cpu_clock(self.daemon.pid))

    def abort(self) -> None:
        """Kill the daemon, so that its clients get an error."""
        if self.daemon is not None:
            self.daemon.kill()


def is_mounted(point: Path) -> bool:
    """Tell whether something is mounted on `point`, by the mount table alone."""
    wanted = str(point)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        field = line.split(" ")[4]
        if re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), field) == wanted:
            return True
    return False


@contextlib.contextmanager
def mounted(subject: Subject, place: Place) -> Iterator[Mount]:
    """Mount `subject` at `place`; when the block ends nothing is mounted and no daemon runs.

    Raises `Refused` if it cannot be mounted, or if its daemon ended by itself.
    """
    if subject.command is None:
        if place.writes:
            place.stack.copy_to(place.merged)
        yield Mount(place.merged if place.writes else place.stack.plain_copy())
        return
    daemon: subprocess.Popen[bytes] | None = None
    try:
        daemon = _start(subject, place)
        yield Mount(place.merged, daemon)
        if daemon is not None and daemon.poll() is not None:
            raise Refused(f"its daemon ended with status {daemon.returncode}{_said(place.log)}")
    finally:
        unmount(place.merged)
        if daemon is not None:
            _end(daemon)


def _start(subject: Subject, place: Place) -> subprocess.Popen[bytes] | None:
    assert subject.command is not None
    argv = subject.command(place, True)
    if subject.uring and URING.exists():
        URING.write_text("Y")
    with open(place.log, "wb") as log:
        try:
            process = subprocess.Popen(
                argv,
                cwd=place.stack.where,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYUNION_WARM": "0"},  # as in `cell`
            )
        except OSError as error:
            raise Refused(f"{argv[0]} cannot be run: {error.strerror}") from None
    deadline = time.monotonic() + LIVE_WITHIN
    while not is_mounted(place.merged) or not subject.serves:
        if process.poll() is not None:
            if process.returncode == 0 and is_mounted(place.merged):
                return None
            raise Refused(f"status {process.returncode} from the mount{_said(place.log)}")
        if time.monotonic() > deadline:
            _end(process)
            raise Refused(f"not mounted within {LIVE_WITHIN:.0f} s{_said(place.log)}")
        time.sleep(0.002)
    return process


def _said(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {' / '.join(lines[-3:])}" if lines else ""


def unmount(point: Path) -> None:
    """Unmount `point`; detach it if it stays busy.  What is not mounted is left alone."""
    deadline = time.monotonic() + ENDS_WITHIN
    while is_mounted(point):
        lazily = ["--lazy"] if time.monotonic() > deadline else []
        subprocess.run(["umount", *lazily, point], stderr=subprocess.DEVNULL, timeout=60)
        if is_mounted(point):
            time.sleep(0.02)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    try:
        daemon.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def said_by(*argv: str) -> str:
    """Return what a command prints, or nothing where it fails or is not there."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def versions() -> dict[str, str]:
    """Return the version of each subject's Debian package."""
    query = ("dpkg-query", "-W", "-f", "${Version}")
    return {
        subject.name: said_by(*query, subject.package) or "not from a package"
        for subject in SUBJECTS
        if subject.package
    }
