"""Working on what keeps even its owner out, without root's privileges."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.mounts import require_root
from unionfs.core.owner_rights import as_owner


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory of mode 0555 that the ordinary user owns, with a directory like that."""
    require_root()
    base = tmp_path / "base"
    (base / "closed/inner").mkdir(parents=True)
    (base / "closed/file").write_text("x")
    for path, mode in (("closed/inner", 0o555), ("closed/file", 0o400), ("closed", 0o555)):
        os.chown(base / path, NOBODY, NOBODY)
        (base / path).chmod(mode)
    os.chown(base, NOBODY, NOBODY)
    return base


def as_nobody(work: Callable[[int], None], base: Path) -> None:
    """Call `work` with an fd of `base`, in a child that is the ordinary user."""
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            work(fd)
            status = 0
        finally:
            os._exit(status)
    os.close(fd)
    assert os.waitpid(child, 0)[1] == 0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_directory_of_mode_0555_is_moved_out_of_another(base: Path) -> None:
    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        as_owner(
            lambda: os.rename("inner", "moved", src_dir_fd=closed, dst_dir_fd=fd),
            (closed, b"inner"),
            (closed, None),
        )

    as_nobody(work, base)
    assert mode_of(base / "closed") == mode_of(base / "moved") == 0o555


def test_modes_are_put_back_after_a_failure(base: Path) -> None:
    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        try:
            as_owner(lambda: os.rename("no", "moved", src_dir_fd=closed, dst_dir_fd=fd), (fd, None))
        except FileNotFoundError:
            pass
        else:
            raise AssertionError
        try:
            as_owner(lambda: os.mkdir("inner", dir_fd=closed), (closed, None))
        except FileExistsError:
            return
        raise AssertionError

    as_nobody(work, base)
    assert mode_of(base / "closed") == 0o555


def test_what_another_owns_stays_closed(base: Path) -> None:
    os.chown(base / "closed", 0, 0)

    def work(fd: int) -> None:
        closed = os.open("closed", os.O_PATH, dir_fd=fd)
        try:
            as_owner(lambda: os.mkdir("new", dir_fd=closed), (closed, None))
        except PermissionError:
            return
        raise AssertionError

    as_nobody(work, base)
    assert mode_of(base / "closed") == 0o555


def test_the_operation_is_tried_once_where_it_succeeds(base: Path) -> None:
    calls: list[int] = []
    as_owner(lambda: calls.append(1), (0, b"no such place"))
    assert calls == [1]
