"""The commands of a live mount: what they answer, and to which users."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore.containers.control_client import ask, freeze, writing
from layerstore.containers.control_protocol import (
    Freeze,
    GetCounters,
    GetStatus,
    Invalidate,
)
from layerstore.errors import StoreError
from mount_tools.daemon.control import Control
from tests.helpers.layers import Layers
from tests.helpers.mounts import Union, mounted_union, wait_until


def _unheard(_line: bytes) -> None:
    raise AssertionError("nobody asked for signs of life")


def test_status_and_counters(union: Union, below: Layers, path: Path) -> None:
    status = ask(path, GetStatus())
    assert (status.pid, status.mount_point) == (union.pid, str(union.root))
    assert status.stack == (str(below.upper), str(below.lowers[0]))
    (union.root / "file").write_text("new")
    assert ask(path, GetCounters()).counters["copy_ups"] == 1


def test_what_is_open_for_writing(union: Union, path: Path) -> None:
    assert writing(path) == ()
    with (
        (union.root / "file").open("ab"),
        (union.root / "folder/new").open("wb"),
        (union.root / "folder/gone").open("wb"),
        (union.root / "folder/deep").open("rb"),
    ):
        (union.root / "folder/gone").unlink()
        assert sorted(writing(path)) == [b"/file", b"/folder/new"]
    wait_until(lambda: writing(path) == (), "the files to be closed")


def test_a_freeze_goes_unnoticed(union: Union, below: Layers, path: Path) -> None:
    root = union.root
    (root / "file").write_text("one")
    (root / "folder/new").write_text("two")
    reader = os.open(root / "file", os.O_RDONLY)
    writer = os.open(root / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(writer, b"before ")
    inos = {p: os.lstat(p).st_ino for p in (root, *root.rglob("*"))}
    here = os.open(root / "folder", os.O_RDONLY | os.O_DIRECTORY)
    frozen = below.base / "frozen"
    done = freeze(path, frozen)
    # What is open for reading stays with the mount too if the kernel reads it by itself.
    assert done.pause_ns > 0
    assert (done.copied, done.copied_bytes) in (((b"/log",), 7), ((b"/file", b"/log"), 10))
    os.write(writer, b"after")
    assert os.pread(writer, 100, 0) == b"before after"
    assert os.pread(reader, 100, 0) == b"one"
    assert os.listdir(here) == os.listdir(root / "folder")
    assert {p: os.lstat(p).st_ino for p in inos} == inos
    assert (frozen / "log").read_bytes() == b"before "
    assert (frozen / "folder/new").read_text() == "two"
    (root / "file").write_text("three")
    assert (frozen / "file").read_text() == "one"
    assert (root / "file").read_text() == "three"
    for fd in (reader, writer, here):
        os.close(fd)
    union.unmount()
    lowers = (frozen, *below.lowers)
    with mounted_union(lowers, below.upper, below.work, at=root) as again:
        assert (again.root / "log").read_bytes() == b"before after"
        assert {p: os.lstat(p).st_ino for p in inos} == inos


def test_a_freeze_that_cannot_be_is_told_why(union: Union, below: Layers, path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        freeze(path, below.base / "no/where")
    with pytest.raises(StoreError, match="absolute path"):
        ask(path, Freeze(b"relative"))
    assert (union.root / "file").read_text() == "low"


def test_what_changed_from_outside_shows_after_invalidate(
    union: Union, below: Layers, path: Path
) -> None:
    folder = union.root / "folder"
    assert not (folder / "added").exists() and os.listdir(folder) == ["deep"]
    (below.lowers[0] / "folder/added").write_text("here")
    ask(path, Invalidate())
    assert (folder / "added").read_text() == "here"
    assert sorted(os.listdir(folder)) == ["added", "deep"]
    (below.lowers[0] / "folder/second").write_text("2")
    ask(path, Invalidate(b"folder"))
    assert (folder / "second").read_text() == "2"


def test_another_user_is_refused() -> None:
    control = Control(Mock(counters=lambda: {"inodes": 1}), "/", Mock())
    line = b'{"command": "counters"}'
    assert b'"ok": true' in control.answer(0, line, _unheard)
    assert b'"ok": true' in control.answer(os.geteuid(), line, _unheard)
    assert b"another user's" in control.answer(os.geteuid() + 1, line, _unheard)
