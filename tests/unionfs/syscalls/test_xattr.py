"""Extended attributes by name and by file descriptor."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root
from tests.helpers.unions import errno_of
from unionfs.syscalls import xattr


@pytest.fixture(params=["6.13", "before"])
def xattr_calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the calls of Linux 6.13 if this kernel has them, and without them."""
    if request.param == "before":
        monkeypatch.setattr(xattr, "HAS_CALLS", False)


@pytest.mark.usefixtures("xattr_calls")
def test_attributes_by_name_never_follow_a_link(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.setxattr(tmp_path / "file", "user.a", b"1")
    assert xattr.list_at(folder, b"file") == ["user.a"]
    assert xattr.get_at(folder, b"file", b"user.a") == b"1"
    assert xattr.get_at(folder, b"file", b"user.b") is None
    assert "user.a" not in xattr.list_at(folder, b"link")


def test_attributes_of_an_o_path_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "user.a", b"1")
    path_fd = os.open(tmp_path / "file", os.O_PATH)
    try:
        assert xattr.list_fd(path_fd) == ["user.a"]
        assert xattr.get_fd(path_fd, b"user.a") == b"1"
        assert xattr.get_fd(path_fd, b"user.b") is None
    finally:
        os.close(path_fd)


@pytest.mark.usefixtures("xattr_calls")
def test_attributes_of_any_length(tmp_path: Path, folder: int) -> None:
    """Long names and values too, and a file name that is not UTF-8."""
    values = {f"user.{'long' * 20}{number}": b"v" * 300 * number for number in range(4)}
    name = os.fsencode(tmp_path / "file") + b"\xff"
    open(name, "xb").close()
    assert xattr.list_at(folder, b"file\xff") == []
    for attribute, value in values.items():
        os.setxattr(name, attribute, value)
    assert sorted(xattr.list_at(folder, b"file\xff")) == sorted(values)
    for attribute, value in values.items():
        assert xattr.get_at(folder, b"file\xff", attribute.encode()) == value
        assert xattr.value_at(folder, b"file\xff", attribute.encode()) == value


@pytest.mark.usefixtures("xattr_calls")
def test_a_malformed_capability_counts_as_none(tmp_path: Path, folder: int) -> None:
    """setxattr(2) takes an empty one; getxattr(2) then gives EINVAL."""
    require_root()
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "security.capability", b"")
    os.setxattr(tmp_path / "file", "user.a", b"1")
    assert xattr.get_at(folder, b"file", b"security.capability") is None
    for flags in (os.O_RDONLY, os.O_PATH):
        fd = os.open(tmp_path / "file", flags)
        try:
            assert xattr.get_fd(fd, b"security.capability") is None
            assert xattr.items_fd(fd) == [("user.a", b"1")]
        finally:
            os.close(fd)


@pytest.mark.usefixtures("xattr_calls")
def test_missing_files_are_errors_and_missing_support_is_not(folder: int) -> None:
    assert errno_of(lambda: xattr.list_at(folder, b"none")) == errno.ENOENT
    assert errno_of(lambda: xattr.get_at(folder, b"none", b"user.a")) == errno.ENOENT
    proc = os.open("/proc/self", os.O_RDONLY)
    try:
        assert xattr.list_at(proc, b"status") == []
        assert xattr.get_at(proc, b"status", b"user.a") is None
    finally:
        os.close(proc)


@pytest.mark.usefixtures("xattr_calls")
def test_a_value_that_is_not_there_is_the_error_of_getxattr(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch()
    errors = {
        b"user.a": errno.ENODATA,
        b"security.capability": errno.ENODATA,
        b"unknown.a": errno.EOPNOTSUPP,
    }
    for attribute, number in errors.items():
        assert errno_of(partial(xattr.value_at, folder, b"file", attribute)) == number
        assert errno_of(partial(os.getxattr, tmp_path / "file", attribute)) == number
    assert errno_of(lambda: xattr.value_at(folder, b"none", b"user.a")) == errno.ENOENT
