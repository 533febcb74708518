"""Where several users can write a record, it gives nobody more than the file has."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerstore.layer.metadata import Metadata
from layerstore.layer.records import OVERRIDE_STAT, as_recorded, believed_name
from tests.helpers.children import spawn, wait
from tests.helpers.mounts import require_root
from unionfs.syscalls.namespaces import CLONE_NEWUSER, unshare

FIRST = 400_000


def with_ids(count: int, function: Callable[[], object]) -> None:
    """Run `function` as root of a user namespace that has `count` users; fail where it fails."""
    require_root()
    ready, go = os.pipe(), os.pipe()

    def work() -> None:
        unshare(CLONE_NEWUSER)
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        function()

    child = spawn(work)
    try:
        os.read(ready[0], 1)
        for kind in ("gid", "uid"):
            Path(f"/proc/{child}/{kind}_map").write_text(f"0 {FIRST} {count}")
        os.write(go[1], b"1")
        assert wait(child) == 0, "the child failed; see its traceback"
    finally:
        for fd in (*ready, *go):
            os.close(fd)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A file, open: other users cannot reach its directory."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x")
    yield fd
    os.close(fd)


def seen(file: int, value: bytes) -> tuple[int, int, int, int]:
    """Return mode, owner and device as a COPY sees them; an archive has to agree."""
    st = os.fstat(file)
    found = as_recorded(st, value)
    archived = Metadata(privileged=False).shown(st, [(OVERRIDE_STAT, value)])
    assert archived[:4] == (found.st_mode, found.st_uid, found.st_gid, found.st_rdev)
    return archived[:4]


def test_of_one_user_everything_is_believed(file: int) -> None:
    os.chown(file, FIRST, FIRST)

    def check() -> None:
        assert seen(file, b"7:8:4755:file") == (stat.S_IFREG | 0o4755, 7, 8, 0)
        assert believed_name(b"user.containers.override_security.capability")

    with_ids(1, check)


@pytest.mark.parametrize("owner", [0, 1000], ids=["taken by root", "of the user"])
@pytest.mark.parametrize(
    "value", [b"0:0:4755:file", b"0:0:2755", b"0:0:0666:char-1-3", b"5:6:0777:file"]
)
def test_a_record_of_another_user_gives_nothing(file: int, owner: int, value: bytes) -> None:
    os.chown(file, FIRST + owner, FIRST + owner)
    os.chmod(file, 0o755)
    with_ids(65536, lambda: _equal(seen(file, value), (stat.S_IFREG | 0o755, owner, owner, 0)))


def _equal(one: object, other: object) -> None:
    assert one == other


def test_what_the_disk_cannot_have_is_believed(file: int) -> None:
    os.chown(file, FIRST, FIRST)

    def check() -> None:
        os.chmod(file, 0o644)
        assert seen(file, b"0:0:0444:file") == (stat.S_IFREG | 0o444, 0, 0, 0)
        assert seen(file, b"200000:7:0044") == (stat.S_IFREG | 0o044, 200000, 7, 0)
        os.chmod(file, 0o600)
        os.truncate(file, 0)
        device = os.makedev(1, 3)
        assert seen(file, b"0:0:0666:char-1-3") == (stat.S_IFCHR | 0o666, 0, 0, device)
        assert believed_name(b"user.containers.override_security.other") == b"security.other"
        assert believed_name(b"user.containers.override_security.capability") is None

    with_ids(65536, check)


def test_root_believes_nothing(file: int) -> None:
    xattrs = [
        (b"user.containers.override_security.capability", b"caps"),
        (b"user.containers.override_trusted.overlay.redirect", b"/etc"),
        (OVERRIDE_STAT, b"0:0:4755:file"),
        (b"user.mine", b"1"),
    ]
    st = os.fstat(file)
    shown = Metadata(privileged=True).shown(st, xattrs)
    assert (shown.mode, shown.xattrs) == (st.st_mode, [(b"user.mine", b"1")])


def test_only_names_that_the_kernel_may_refuse_are_recorded() -> None:
    assert believed_name(b"user.containers.override_trusted.overlay.redirect") is None
    assert believed_name(OVERRIDE_STAT) is None
