"""suid and sgid go with the first change of a file's data by an unprivileged process.

An attack: a descriptor that is older than the bit.  The oracle is a plain directory.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conformance.tree import file
from tests.helpers.calls import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, btime_ns, fallocate
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import DEADLINE, mounted_union, require_fuse, require_root
from tests.helpers.security import GROUP_ID, USER_ID, run_as

DATA = bytes(range(256)) * 256
MODES = (0o4755, 0o2755, 0o6777, 0o2666, 0o4644)

Way = Callable[[int], object]


def write(fd: int) -> None:
    os.pwrite(fd, b"attack", 0)


def writev(fd: int) -> None:
    os.pwritev(fd, [b"att", b"ack"], 0)


def splice(fd: int) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"attack")
    try:
        os.splice(reader, fd, 6, offset_dst=0)
    finally:
        os.close(reader)
        os.close(writer)


def sendfile(fd: int) -> None:
    source = os.memfd_create("attack")
    os.write(source, b"attack")
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        os.sendfile(fd, source, 0, 6)
    finally:
        os.close(source)


def copy_range(fd: int) -> None:
    os.copy_file_range(fd, fd, 6, 4096, 0)


def allocate(fd: int) -> None:
    fallocate(fd, 0, 0, 100_000)


def punch(fd: int) -> None:
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)


def truncate(fd: int) -> None:
    os.ftruncate(fd, 5)


WAYS: tuple[Way, ...] = (
    write,
    writev,
    splice,
    sendfile,
    copy_range,
    allocate,
    punch,
    truncate,
)
VARIANTS = {
    "pyfuse3": ("off", ("transport=pyfuse3",)),
    **{
        f"dev_fuse-uring {uring}-passthrough {passthrough}": (
            uring,
            ("transport=dev_fuse", f"io_uring={uring}", f"passthrough={passthrough}"),
        )
        for uring in ("off", "on")
        for passthrough in ("on", "all", "off")
    },
    "dev_fuse-modes in attributes": ("off", ("transport=dev_fuse", "xattr_permissions=2")),
}


@pytest.fixture(params=VARIANTS)
def options(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    require_root()
    require_fuse()
    if request.param == "pyfuse3" and importlib.util.find_spec("pyfuse3") is None:
        pytest.skip("pyfuse3 is not installed")
    uring, words = VARIANTS[request.param]
    with io_uring_enabled() if uring == "on" else contextlib.nullcontext():
        yield words


class Outcome(NamedTuple):
    """The mode after a change, and the error with which it was refused, empty if it was not."""

    mode: int
    error: str

    def __str__(self) -> str:
        return f"{self.mode:o} {self.error}".rstrip()


class Case(NamedTuple):
    """A change of a file that got `mode` after it was opened for writing."""

    way: Way
    mode: int
    opener: str
    writer: str
    member: bool  # the user is in the group of the file

    def __str__(self) -> str:
        group = "member" if self.member else "foreign"
        return f"{self.way.__name__}-{self.mode:o}-{self.opener}-{self.writer}-{group}"


CASES = [
    Case(way, mode, opener, writer, member)
    for way in WAYS
    for mode in MODES
    for opener in ("user", "root")
    for writer in ("user", "root")
    for member in (False, True)
]


def left(root: Path, case: Case) -> Outcome:
    """Return what `case` leaves of the mode."""
    path = root / str(case)
    if not path.exists():
        path.write_bytes(DATA)
    os.chmod(path, 0o666)

    def enter() -> int:
        return os.open(path, os.O_RDWR)

    fd = run_as(enter) if case.opener == "user" else enter()
    error = ""
    try:
        os.chown(path, 0, GROUP_ID if case.member else 77)
        os.chmod(path, case.mode)
        assert stat.S_IMODE(os.stat(path).st_mode) == case.mode
        try:
            run_as(lambda: case.way(fd)) if case.writer == "user" else case.way(fd)
        except OSError as refusal:
            error = errno.errorcode[refusal.errno or 0]
        return Outcome(stat.S_IMODE(os.stat(path).st_mode), error)
    finally:
        os.close(fd)


def attacked(root: Path) -> dict[Case, Outcome]:
    return {case: left(root, case) for case in CASES}


@pytest.fixture
def plain() -> Iterator[Path]:
    """A plain directory that every user may enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def test_a_descriptor_older_than_the_bit(
    layers: HandmadeLayers, options: tuple[str, ...], plain: Path
) -> None:
    """Every way of changing data by a user leaves the mode that a plain directory shows."""
    expected = attacked(plain)
    assert not any(outcome.error for outcome in expected.values())
    assert {str(outcome) for case, outcome in expected.items() if case.mode == 0o4755} == {
        "755",  # a user writes
        "4755",  # root writes
    }
    lower = (case for case in CASES if not case.member)
    layers.layer(*(file(str(case), DATA, mode=0o666) for case in lower))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        found = attacked(union.root)
    wrong = {
        str(case): f"{found[case]} instead of {outcome}"
        for case, outcome in expected.items()
        if found[case] not in allowed(case, outcome, options)
    }
    assert not wrong


def allowed(case: Case, plain: Outcome, options: tuple[str, ...]) -> tuple[Outcome, ...]:
    """Return the outcomes that are right where a plain directory shows `plain`.

    They are others where the subject cannot know who writes, and drops more than it must:

    - The kernel writes to the real file of a passthrough with the credentials it was
      registered with: those of a user, and of a member of no group.
    - libfuse says neither who writes nor, in pyfuse3, anything of fallocate.  What is
      known there is who opened the file.
    """
    name = case.way.__name__
    dropped = plain._replace(mode=case.mode & 0o1777)
    if "transport=pyfuse3" in options:
        if name in ("allocate", "punch"):
            # The kernel drops the bits before it learns that there is no FALLOCATE.
            return Outcome(case.mode, "ENOTSUP"), Outcome(plain.mode, "ENOTSUP")
        for_locks = case.mode == 0o2666 and case.member and case.opener == "user"
        return (plain if name == "truncate" or for_locks else dropped,)
    passes = not {"passthrough=off", "xattr_permissions=2"} & {*options}
    return (dropped if passes and name in ("write", "writev", "splice", "sendfile") else plain,)


def listing(root: Path) -> None:
    subprocess.run(["ls", "-l", root], stdout=subprocess.DEVNULL, timeout=DEADLINE, check=True)


@pytest.mark.parametrize(
    "ask",
    [os.listdir, listing, lambda root: os.stat(root / "id"), lambda root: btime_ns(root / "id")],
    ids=["readdir", "ls", "stat", "statx"],
)
def test_the_mode_that_exec_uses_is_the_new_one(
    layers: HandmadeLayers, options: tuple[str, ...], ask: Callable[[Path], object]
) -> None:
    """What runs is not root's: also where nobody asked for the attributes in between."""
    program = Path(shutil.which("id") or "")
    layers.layer(file("id", program.read_bytes(), mode=0o777))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        path = union.root / "id"
        fd = run_as(lambda: os.open(path, os.O_RDWR))
        os.chown(path, 0, 0)
        os.chmod(path, 0o4777)
        # The kernel remembers none of what these requests answer.
        ask(union.root)
        run_as(lambda: os.pwrite(fd, b"\x7fELF", 0))
        os.close(fd)
        done = subprocess.run(
            [path, "-u"], user=USER_ID, group=GROUP_ID, extra_groups=[], timeout=DEADLINE,
            capture_output=True, check=True,
        )  # fmt: skip
        assert int(done.stdout) == USER_ID


def test_suid_before_the_open(layers: HandmadeLayers, options: tuple[str, ...]) -> None:
    """An open alone drops nothing; a user's write does, root's only where we cannot tell."""
    layers.layer(file("opened", DATA, mode=0o6777), file("written", DATA, mode=0o6777),
                 file("root", DATA, mode=0o6777))  # fmt: skip
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        for flags in (os.O_RDWR, os.O_WRONLY):
            os.close(run_as(lambda flags=flags: os.open(union.root / "opened", flags)))  # type: ignore[misc]
        assert stat.S_IMODE((union.root / "opened").stat().st_mode) == 0o6777
        fd = run_as(lambda: os.open(union.root / "written", os.O_RDWR))
        run_as(lambda: os.pwrite(fd, b"x", 0))
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o777
        os.close(fd)
        assert stat.S_IMODE((union.root / "written").stat().st_mode) == 0o777
        with open(union.root / "root", "r+b") as writer:
            writer.write(b"x")
        kept = 0o777 if "transport=pyfuse3" in options else 0o6777
        assert stat.S_IMODE((union.root / "root").stat().st_mode) == kept


def mode_after_acl(root: Path, *, group: int, setter: int) -> int:
    """Return the mode of a sgid file after `setter`, the owner, sets an ACL."""
    path = root / f"acl-{group}-{setter}"
    path.touch()
    os.chown(path, setter, group)
    path.chmod(0o2755)
    subprocess.run(
        ["setfacl", "-m", "u:1:rwx", path],
        user=setter, group=GROUP_ID if setter else 0, extra_groups=[], timeout=DEADLINE, check=True,
    )  # fmt: skip
    return stat.S_IMODE(path.stat().st_mode)


def test_an_acl_set_by_a_non_member_takes_sgid_away(
    layers: HandmadeLayers, options: tuple[str, ...], plain: Path
) -> None:
    if "xattr_permissions=2" in options:
        pytest.skip("an access control list does not change a mode in an attribute")
    cases = [(group, setter) for group in (GROUP_ID, 77) for setter in (USER_ID, 0)]
    expected = [mode_after_acl(plain, group=group, setter=setter) for group, setter in cases]
    assert expected == [0o2775, 0o2775, 0o775, 0o2775]
    layers.layer(file("lower", DATA))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        found = [mode_after_acl(union.root, group=group, setter=setter) for group, setter in cases]
    assert found == expected
