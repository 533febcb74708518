"""Mount namespaces and their roots: out of a chroot, and into a root of one's own."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.children import run
from tests.helpers.mounts import DEADLINE, require_root
from unionfs.syscalls import namespaces
from unionfs.syscalls.mount import MS_BIND, MS_REC, MS_SLAVE, mount
from unionfs.syscalls.namespaces import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    chroot_to,
    enter_root,
    keep_only,
    leave_chroot,
    mount_namespace,
    setns,
    unshare,
)

O_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@pytest.fixture
def root(tmp_path: Path) -> Path:
    require_root()
    (tmp_path / "root/below").mkdir(parents=True)
    (tmp_path / "root/file").write_text("of the root")
    return tmp_path / "root"


def in_namespace(work: Callable[[], None]) -> None:
    """Do `work` in a child with a mount namespace of its own."""

    def run_it() -> None:
        unshare(CLONE_NEWNS)
        mount(b"none", b"/", b"", MS_REC | MS_SLAVE, b"")
        work()

    run(run_it)


def test_out_of_a_chroot_and_back(root: Path) -> None:
    def work() -> None:
        namespace = mount_namespace()
        before = os.stat("/").st_ino
        chroot = os.open(root, O_DIRECTORY)
        chroot_to(chroot)
        assert sorted(os.listdir("/")) == ["below", "file"] and os.getcwd() == "/"
        leave_chroot(namespace)
        assert os.stat("/").st_ino == before and os.getcwd() == "/"
        chroot_to(chroot)
        assert os.path.exists("/file")

    in_namespace(work)


def test_beside_another_thread(root: Path) -> None:
    """For a while the kernel counts also a thread that has been joined."""

    def work() -> None:
        namespace = mount_namespace()
        chroot_to(os.open(root, O_DIRECTORY))
        over = threading.Event()
        thread = threading.Thread(target=over.wait, args=(DEADLINE,))
        thread.start()
        leave_chroot(namespace)
        assert not os.path.exists("/file")
        over.set()
        thread.join()

    in_namespace(work)


def test_a_user_namespace_waits_for_threads_that_end() -> None:
    def work() -> None:
        ending = threading.Thread(target=threading.Event().wait, args=(0.05,))
        ending.start()
        unshare(CLONE_NEWUSER)
        assert not ending.is_alive()

    require_root()
    run(work)


def refuse(*_: object) -> None:
    """Be a system call that fails with EINVAL."""
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def climb() -> list[str]:
    """Return what is at the top for a process that climbs out of a chroot of its own."""
    top = os.open("/", O_DIRECTORY)
    os.chroot("/below")
    os.fchdir(top)
    for _ in range(64):
        os.chdir("..")
    return sorted(os.listdir("."))


@pytest.mark.parametrize("pivots", [True, False], ids=["pivot_root", "MS_MOVE"])
@pytest.mark.parametrize("chroot", [None, "directory", "mount"])
def test_the_root_of_the_namespace_is_exchanged(
    root: Path, tmp_path: Path, chroot: str | None, pivots: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No way back: by setns(2), by `..`, whatever chroot the caller was in."""
    if not pivots:
        # As from an initramfs, whose first mount cannot be exchanged: EINVAL.
        monkeypatch.setattr(namespaces, "pivot_root", refuse)

    def work() -> None:
        namespace = mount_namespace()
        mount(os.fsencode(root), os.fsencode(root), b"", MS_BIND, b"")
        fd = os.open(root, O_DIRECTORY)
        if chroot is not None:
            if chroot == "mount":
                mount(os.fsencode(tmp_path), os.fsencode(tmp_path), b"", MS_BIND, b"")
            chroot_to(os.open(tmp_path, O_DIRECTORY))
        enter_root(namespace, fd)
        assert Path("/file").read_text() == "of the root" and os.getcwd() == "/"
        setns(namespace, CLONE_NEWNS)
        assert sorted(os.listdir("/")) == ["below", "file"]
        assert climb() == ["below", "file"]

    in_namespace(work)


def test_only_some_capabilities_are_kept() -> None:
    require_root()

    def held() -> dict[str, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        return {
            name: int(value, 16)
            for name, _, value in (line.partition(":") for line in lines)
            if name in ("CapPrm", "CapEff", "CapInh")
        }

    def work() -> None:
        before = held()
        keep_only((0, 38, 63))  # one in each half, and one that does not exist
        assert held() == {name: value & (1 | 1 << 38) for name, value in before.items()}
        keep_only((0, 1))
        assert held()["CapPrm"] == 1, "none comes back"

    run(work)
