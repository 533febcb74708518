"""A daemon that may open few files serves trees of many: what nobody has open needs none."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import Layers
from tests.helpers.mounts import Union, mounted_union, require_root, run, wait_until
from tests.helpers.small_disks import small_disk
from tests.helpers.unions import Content, errno_of

LIMIT = 256
FILES = 1500
OPEN = 700
SIZE = 8192  # bytes of each file

WAYS = {
    "uring": ("transport=dev_fuse", "io_uring=on"),
    "read": ("transport=dev_fuse", "io_uring=off"),
    "through-us": ("transport=dev_fuse", "io_uring=off", "passthrough=off"),
    "pyfuse3": ("transport=pyfuse3",),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem whose free space no other process changes."""
    require_root()
    with small_disk(tmp_path, "ext4", 64 << 20, 2 * FILES) as top:
        yield top


@pytest.fixture(params=WAYS)
def union(request: pytest.FixtureRequest, disk: Path) -> Iterator[Union]:
    """A union served by a daemon that may open `LIMIT` files."""
    way: str = request.param
    if way == "pyfuse3":
        pytest.importorskip("pyfuse3")
    for name in ("lower", "upper", "work"):
        (disk / name).mkdir()
    with contextlib.ExitStack() as stack:
        if way == "uring":
            stack.enter_context(io_uring_enabled())
        union = stack.enter_context(
            mounted_union(
                [disk / "lower"],
                disk / "upper",
                disk / "work",
                WAYS[way],
                runner=("prlimit", f"--nofile={LIMIT}:{LIMIT}"),
            )
        )
        yield union


def open_files(union: Union) -> int:
    return len(os.listdir(f"/proc/{union.pid}/fd"))


def test_many_files_are_removed_and_their_space_is_free(union: Union, disk: Path) -> None:
    top = union.root / "top"
    for number in range(FILES):
        if number % 10 == 0:
            (top / f"{number // 10}").mkdir(parents=True)
        (top / f"{number // 10}" / f"{number}").write_bytes(bytes(SIZE))
    run("sync", "-f", disk)
    before = os.statvfs(disk)
    run("rm", "-rf", top, timeout=120)
    assert list((disk / "upper").iterdir()) == []

    def is_free() -> bool:
        now = os.statvfs(disk)
        return (now.f_bfree - before.f_bfree) * now.f_frsize >= FILES * SIZE

    wait_until(lambda: os.statvfs(disk).f_ffree - before.f_ffree >= FILES, "inodes")
    wait_until(is_free, "the space of the files to be free")


@contextlib.contextmanager
def may_open(count: int) -> Iterator[None]:
    """Let this process open `count` files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_files_are_open_than_the_daemon_may_open(union: Union) -> None:
    """They are read, written, renamed and removed, and live on until they are closed."""
    root = union.root
    for number in range(OPEN):
        (root / f"{number}").write_bytes(b"%d" % number)
    with may_open(2 * OPEN), contextlib.ExitStack() as stack:
        held = [stack.enter_context((root / f"{n}").open("r+b", 0)) for n in range(OPEN)]
        for number, file in enumerate(held):
            assert file.read() == b"%d" % number
        for number in range(0, OPEN, 3):
            (root / f"{number}").rename(root / f"moved {number}")
        for file in held:
            file.write(b" more")
        assert sorted(os.listdir(root)) == sorted(
            f"{n}" if n % 3 else f"moved {n}" for n in range(OPEN)
        )
        for name in os.listdir(root):
            (root / name).unlink()
        assert os.listdir(root) == []
        (root / "fresh").mkdir()
        for number, file in enumerate(held):
            assert os.fstat(file.fileno()).st_nlink == 0
            assert os.pread(file.fileno(), 100, 0) == b"%d more" % number
            os.pwrite(file.fileno(), b"!", 0)
            assert os.pread(file.fileno(), 1, 0) == b"!"
    wait_until(lambda: open_files(union) < LIMIT // 2, "the files to be closed")


def test_lower_files_that_are_open_are_copied_up(union: Union, disk: Path) -> None:
    for number in range(OPEN):
        (disk / f"lower/{number}").write_bytes(b"%d" % number + bytes(20_000))
    root = union.root
    with may_open(2 * OPEN), contextlib.ExitStack() as stack:
        held = [stack.enter_context((root / f"{n}").open("rb", 0)) for n in range(OPEN)]
        for number in range(0, OPEN, 10):
            with (root / f"{number}").open("r+b", 0) as file:
                file.write(b"changed")
        for number, file in enumerate(held):
            start = b"%d" % number if number % 10 else b"changed"
            assert file.read(len(start)) == start


DIRS = 30
LEFT = 2


@contextlib.contextmanager
def few_files() -> Iterator[None]:
    """Let this process open `LIMIT` files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def descriptors_taken(left: int) -> Iterator[None]:
    """Take all that this process may open but `left`."""
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)


OPERATIONS: dict[str, Callable[[CoreDriver], object]] = {
    "open for writing": lambda t: t.close(t.open(b"d/s/f", os.O_RDWR, 0)),
    "chmod": lambda t: t.chmod(b"d/s/f", 0o600),
    "chmod of a directory": lambda t: t.chmod(b"d/s", 0o700),
    "truncate": lambda t: t.truncate(b"d/s/f", 5),
    "link": lambda t: t.link(b"d/s/f", b"d/s/g"),
    "rename": lambda t: t.rename(b"d/s/f", b"d/s/g", 0),
    "rename of a directory": lambda t: t.rename(b"d/s", b"d/there", 0),
    "unlink": lambda t: t.unlink(b"d/s/f"),
    "mkdir": lambda t: t.mkdir(b"d/s/new", 0o700),
    "create": lambda t: t.create(b"d/s/new", 0o600),
    "symlink": lambda t: t.symlink(b"x", b"d/s/new"),
    "list": lambda t: list(t.listdir(b"d/s")),
}


@pytest.mark.parametrize("metacopy", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_spare_descriptors_are_closed_for_an_operation(
    tmp_path: Path, operation: str, metacopy: bool
) -> None:
    """Others take all but a few of the files that the process may open."""
    content: dict[str, Content] = {f"{n}": {"s": {"f": "text"}} for n in range(DIRS)}
    layers = Layers(tmp_path, content | {"d": {"s": {"f": "text" * 1000}}})
    with few_files(), layers.union(metacopy=metacopy) as union, contextlib.ExitStack() as stack:
        for number in range(DIRS):
            fh = union.open(b"%d/s/f" % number, os.O_RDONLY, 0)
            stack.callback(union.close, fh)
        with descriptors_taken(LEFT):
            OPERATIONS[operation](union)


def test_a_directory_that_cannot_be_listed_for_want_of_descriptors_says_so(
    tmp_path: Path,
) -> None:
    layers = Layers(tmp_path, {"d": {"f": "text"}})
    with few_files(), layers.union() as tree, descriptors_taken(0):
        assert errno_of(lambda: tree.listdir(b"d")) == errno.EMFILE
    assert layers.look()[b"d/f"].content == b"text"
