"""The control socket of a live mount: what it answers, to which users, and what cannot harm it."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import trio

from layerstore.containers.control_client import NoMount, ask, freeze, writing
from layerstore.containers.control_protocol import (
    Freeze,
    GetCounters,
    GetStatus,
    Invalidate,
)
from layerstore.errors import Busy, StoreError
from mount_tools.daemon.control_server import Control, serve_control
from mount_tools.daemon.control_socket import listen
from tests.helpers.layers import Layers
from tests.helpers.mounts import Union, mounted_union, wait_until

TRANSPORTS = ("pyfuse3", "dev_fuse")


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path / "layers", {"file": "low", "folder": {"deep": "1"}})


@pytest.fixture(params=TRANSPORTS)
def union(request: pytest.FixtureRequest, layers: Layers) -> Iterator[Union]:
    options = (f"control={layers.base}/control", f"transport={request.param}")
    with mounted_union(layers.lowers, layers.upper, layers.work, options) as mounted:
        yield mounted


@pytest.fixture
def path(layers: Layers) -> Path:
    return layers.base / "control"


def test_status_and_counters(union: Union, layers: Layers, path: Path) -> None:
    status = ask(path, GetStatus())
    assert (status.pid, status.mount_point) == (union.pid, str(union.root))
    assert status.stack == (str(layers.upper), str(layers.lowers[0]))
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


def test_only_its_owner_may_ask(union: Union, path: Path) -> None:
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600


def test_it_goes_with_the_mount(union: Union, path: Path) -> None:
    union.unmount()
    assert not path.exists()
    with pytest.raises(NoMount):
        ask(path, GetStatus())


def test_a_freeze_goes_unnoticed(union: Union, layers: Layers, path: Path) -> None:
    root = union.root
    (root / "file").write_text("one")
    (root / "folder/new").write_text("two")
    reader = os.open(root / "file", os.O_RDONLY)
    writer = os.open(root / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(writer, b"before ")
    inos = {p: os.lstat(p).st_ino for p in (root, *root.rglob("*"))}
    here = os.open(root / "folder", os.O_RDONLY | os.O_DIRECTORY)
    frozen = layers.base / "frozen"
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
    lowers = (frozen, *layers.lowers)
    with mounted_union(lowers, layers.upper, layers.work, at=root) as again:
        assert (again.root / "log").read_bytes() == b"before after"
        assert {p: os.lstat(p).st_ino for p in inos} == inos


def test_a_freeze_that_cannot_be_is_told_why(union: Union, layers: Layers, path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        freeze(path, layers.base / "no/where")
    with pytest.raises(StoreError, match="absolute path"):
        ask(path, Freeze(b"relative"))
    assert (union.root / "file").read_text() == "low"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"command": 1}\n',
        b'{"command": "dance"}\n',
        b'{"command": "status", "nan": NaN}\n',
        b'{"command": "freeze", "upper_to": "/\\ud800"}\n',
        b"[" * 60_000 + b"\n",
    ],
)
def test_nonsense_costs_only_itself(union: Union, path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(os.fspath(path))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").readline()
    assert not answer or json.loads(answer)["ok"] is False
    assert ask(path, GetStatus()).pid == union.pid


def test_a_line_too_long_to_wait_in_is_a_busy_mount(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(os.fspath(path))
        listener.listen(0)
        first.connect(os.fspath(path))
        with pytest.raises(Busy):
            ask(path, GetStatus())
        with pytest.raises(OSError, match="in use"):
            listen(os.fspath(path))


def test_descriptors_that_run_out_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = listen(os.fspath(tmp_path / "control"))
    kind = type(trio.socket.from_stdlib_socket(listener))
    accept, refusals = kind.accept, [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED]

    async def refusing(self: Any) -> Any:
        if refusals:
            number = refusals.pop()
            raise OSError(number, os.strerror(number))
        return await accept(self)

    monkeypatch.setattr(kind, "accept", refusing)
    control = Control(Mock(), "/", lambda: None)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_control, listener, control)
            with pytest.raises(StoreError, match="absolute path"):
                await trio.to_thread.run_sync(ask, tmp_path / "control", Freeze(b"relative"))
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert not refusals


def test_what_changed_from_outside_shows_after_invalidate(
    union: Union, layers: Layers, path: Path
) -> None:
    folder = union.root / "folder"
    assert not (folder / "added").exists() and os.listdir(folder) == ["deep"]
    (layers.lowers[0] / "folder/added").write_text("here")
    ask(path, Invalidate())
    assert (folder / "added").read_text() == "here"
    assert sorted(os.listdir(folder)) == ["added", "deep"]
    (layers.lowers[0] / "folder/second").write_text("2")
    ask(path, Invalidate(b"folder"))
    assert (folder / "second").read_text() == "2"


def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(
    union: Union, layers: Layers, path: Path
) -> None:
    with pytest.raises(OSError, match="in use"):
        listen(os.fspath(path))
    stale = layers.base / "stale"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(os.fspath(stale))
    listen(os.fspath(stale)).close()
    assert stat.S_IMODE(stale.lstat().st_mode) == 0o600
