"""Exceptions as the errno that a caller of a system call sees."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from tests.helpers import children
from unionfs.errors import (
    FIRST_INTERNAL,
    ConfigError,
    InUse,
    MountBusy,
    MountError,
    errno_of,
    error_text,
    fs_error,
)


def test_an_fs_error_has_the_class_and_the_text_of_its_errno() -> None:
    error = fs_error(errno.ENOENT)
    assert isinstance(error, FileNotFoundError)
    assert error.strerror == os.strerror(errno.ENOENT)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, FIRST_INTERNAL - 1])
def test_an_oserror_is_answered_with_its_errno(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert errno_of(fs_error(number), "LOOKUP") == number
    assert caplog.records == []


@pytest.mark.parametrize("number", [FIRST_INTERNAL, 524, -errno.ENOENT])
def test_a_number_that_no_program_may_see_is_eio(number: int) -> None:
    """The kernel does not take such a reply, and the caller would wait forever."""
    assert errno_of(OSError(number, "internal"), "LOOKUP") == errno.EIO


@pytest.mark.parametrize("bug", [ValueError("wrong"), OSError("without an errno")])
def test_a_bug_is_eio_and_logged_with_its_traceback(
    bug: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert errno_of(bug, "READLINK") == errno.EIO
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "READLINK" in record.getMessage()
    assert record.exc_info is not None and record.exc_info[1] is bug


def test_what_a_caller_may_catch() -> None:
    """A busy layer is an error of the configuration, a busy mount one of the mount."""
    with pytest.raises(ConfigError):
        raise InUse("the upper is in use")
    with pytest.raises(MountError):
        raise MountBusy("the mount is in use")
    assert not issubclass(MountError, ConfigError)


def test_the_text_of_an_error_names_its_paths(tmp_path: Path) -> None:
    with pytest.raises(OSError) as one:
        os.stat(os.fsencode(tmp_path / "lost"))
    assert error_text(one.value) == f"{tmp_path}/lost: No such file or directory"
    with pytest.raises(OSError) as two:
        os.rename(tmp_path / "a", tmp_path / "b")
    assert error_text(two.value) == f"{tmp_path}/a -> {tmp_path}/b: No such file or directory"
    assert error_text(OSError("cut short")) == "cut short"


def test_a_working_directory_that_was_removed_is_named(tmp_path: Path) -> None:
    """getcwd(3) says ENOENT and no path."""

    def meet() -> None:
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(FileNotFoundError) as error:
            os.getcwd()
        assert error_text(error.value).startswith("the working directory was removed")

    children.run(meet)
    assert error_text(fs_error(errno.ENOENT)) == "No such file or directory"


def test_the_text_of_an_error_of_a_descriptor_names_no_path() -> None:
    with pytest.raises(OSError) as error:
        os.chmod(1 << 30, 0)
    assert error.value.filename == 1 << 30
    assert error_text(error.value) == "Bad file descriptor"
