"""The C library, and its errors as `OSError`."""

from __future__ import annotations

import ctypes
import errno
import os

from unionfs.syscalls.libc import fail, libc, libc_held


def test_a_failed_call_leaves_its_errno() -> None:
    for library in (libc, libc_held):
        ctypes.set_errno(0)
        assert library.close(-1) == -1
        error = fail()
        assert error.errno == errno.EBADF
        assert error.strerror == os.strerror(errno.EBADF)
        assert error.filename is None


def test_the_error_has_the_class_and_the_name_of_its_cause() -> None:
    ctypes.set_errno(errno.ENOENT)
    error = fail(b"name", b"other")
    assert isinstance(error, FileNotFoundError)
    assert error.filename == b"name"
    assert error.filename2 is None
