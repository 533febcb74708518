"""Filters do to calls what they say, in a process of their own; the library is optional."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

import pytest

from tests.helpers.children import run
from unionfs.syscalls import seccomp
from unionfs.syscalls.seccomp import ALLOW, Condition, Filter, Unavailable, fail_with


@pytest.fixture
def allowing() -> Filter:
    """A filter that allows everything."""
    try:
        return Filter(ALLOW)
    except Unavailable as error:
        pytest.skip(str(error))


def errno_of(call: Callable[[], object]) -> int:
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def test_a_call_fails_as_the_filter_says(allowing: Filter) -> None:
    allowing.add("mkdir", fail_with(errno.EXDEV))
    allowing.add("mkdirat", fail_with(errno.EXDEV))
    allowing.add("no_such_call", fail_with(errno.EXDEV))
    allowing.add("read", ALLOW)

    def check() -> None:
        allowing.load()
        assert errno_of(lambda: os.mkdir("/nosuch/x")) == errno.EXDEV
        assert os.getpid() > 0

    run(check)
    assert errno_of(lambda: os.mkdir("/nosuch/x")) == errno.ENOENT


@pytest.mark.parametrize(
    ("how", "value", "second", "refused"),
    [
        ("EQ", 7, 0, {7}),
        ("NE", 7, 0, {6, 8}),
        ("GE", 7, 0, {7, 8}),
        ("GT", 7, 0, {8}),
        ("LE", 7, 0, {6, 7}),
        ("LT", 7, 0, {6}),
        ("MASKED_EQ", 2, 2, {6, 7}),
    ],
)
def test_a_condition_on_an_argument(
    allowing: Filter, how: str, value: int, second: int, refused: set[int]
) -> None:
    allowing.add("close", fail_with(errno.EXDEV), [Condition(0, how, value, second)])

    def refuses(fd: int) -> bool:
        return errno_of(lambda: os.close(fd)) == errno.EXDEV

    def check() -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        for fd in (6, 7, 8):
            os.dup2(null, fd)
        allowing.load()
        assert {fd for fd in (6, 7, 8) if refuses(fd)} == refused

    run(check)


def test_filters_of_other_architectures_are_made_too(allowing: Filter) -> None:
    allowing.add_architecture("x32")
    allowing.add_architecture("x32")
    allowing.add_architecture("none")
    allowing.add("mkdirat", fail_with(errno.EXDEV))
    run(allowing.load)


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise OSError("no such library")

    seccomp.load_library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(Unavailable, match=r"libseccomp.so.2 is not installed"):
        Filter(ALLOW)
