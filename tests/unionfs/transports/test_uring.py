"""io_uring: used where the kernel offers it, left out elsewhere, refused with a sentence."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.io_uring import SWITCH, io_uring_disabled, io_uring_enabled
from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import (
    helper_command,
    helper_environment,
    layer_options,
    mount_type,
    mounted_union,
    run,
    wait_until,
)
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.errors import MountError
from unionfs.syscalls.io_uring import Ring
from unionfs.transports import dev_fuse, uring
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.session import Terms


@pytest.fixture
def switched_off() -> Iterator[None]:
    with io_uring_disabled():
        yield


def test_a_ring_for_each_cpu(layers: HandmadeLayers) -> None:
    """Each with a thread that stays there, and the mount ends with all of them."""
    layers.layer()
    with (
        io_uring_enabled(),
        mounted_union(layers.stack, layers.upper, layers.work, ["io_uring=on"]) as union,
    ):
        (union.root / "file").write_text("x")
        assert "over_io_uring" in union.log()
        threads = [int(task) for task in os.listdir(f"/proc/{union.pid}/task")]
        own = [os.sched_getaffinity(thread) for thread in threads]
        pinned = [cpus for cpus in own if len(cpus) == 1]
        if len(os.sched_getaffinity(0)) > 1:
            assert {cpu for cpus in pinned for cpu in cpus} == set(os.sched_getaffinity(0))


def test_a_kernel_without_io_uring_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uring, "SWITCH", str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"this kernel has no FUSE over io_uring \(Linux 6\.14\)"):
        uring.open_queues()


@pytest.mark.usefixtures("switched_off")
def test_io_uring_that_is_switched_off_is_not_used(layers: HandmadeLayers) -> None:
    layers.layer()
    options = ["transport=dev_fuse", "io_uring=auto"]
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        (union.root / "file").write_text("x")
        assert f"without io_uring: {SWITCH} is not Y" in union.log()


def _that_requires_it(layers: HandmadeLayers) -> tuple[bytes, Path]:
    """Return the options of a mount with io_uring=on, and its mount point."""
    layers.layer()
    point = layers.base / "merged"
    point.mkdir()
    return layer_options(layers.stack, layers.upper, layers.work) + b",io_uring=on", point


@pytest.mark.usefixtures("switched_off")
def test_io_uring_that_is_switched_off_cannot_be_required(layers: HandmadeLayers) -> None:
    words, point = _that_requires_it(layers)
    done = run(*helper_command("-f", "-o", words, point), env=helper_environment(), check=False)
    assert done.returncode == 32
    said = f"mount.pyunion: io_uring is not available: {SWITCH} is not Y; leave out io_uring=on\n"
    assert done.stderr.decode().endswith(said)
    assert mount_type(point) is None
    assert os.listdir(layers.work / "work") == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.ENOMEM, errno.EMFILE])
def test_a_kernel_that_refuses_rings(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """kernel.io_uring_disabled and seccomp say EPERM, limits ENOMEM or EMFILE."""
    monkeypatch.setattr(uring, "is_enabled", lambda: True)
    monkeypatch.setattr(uring, "possible_cpus", lambda: 2)
    made: list[int] = []

    def refuse(self: Ring, entries: int) -> None:
        if made:
            raise OSError(code, os.strerror(code))
        made.append(entries)

    monkeypatch.setattr(Ring, "__init__", refuse)
    monkeypatch.setattr(Ring, "close", lambda self: made.clear())
    with pytest.raises(OSError, match=r"io_uring_setup\(2\): ") as caught:
        uring.open_queues()
    assert caught.value.errno == code
    assert not made, "the first ring was given up again"


# The kernel asks for the switch at INIT, at the reply and for each ring.
_SWITCHED_OFF_LATER = """
import sys
from mount_tools.helper.entry import main
from unionfs.transports import uring
from unionfs.wire import session
from unionfs.wire.abi import Init

init = session.Session.init

def init_as_if_offered(self, message):
    reply = init(self, message)
    self.flags |= Init.OVER_IO_URING
    return reply

uring.is_enabled = lambda: True
session.Session.init = init_as_if_offered
sys.exit(main())
"""


@contextmanager
def _switched_off_later(layers: HandmadeLayers, *words: bytes) -> Iterator[tuple[Path, int, Path]]:
    """Yield the mount point, the daemon and its log."""
    options = layer_options(layers.stack, layers.upper, layers.work)
    log, point = layers.base / "log", layers.base / "merged"
    point.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _SWITCHED_OFF_LATER]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [*command, "-f", "-o", b",".join((options, *words)), point],
            env=helper_environment(),
            stdout=file,
            stderr=file,
        ) as daemon,
    ):
        try:
            wait_until(lambda: mount_type(point) is not None, "the mount")
            yield point, daemon.pid, log
        finally:
            run("umount", "-l", point, check=False)
            assert daemon.wait(60) == 0, log.read_text()


def _threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.usefixtures("switched_off")
def test_io_uring_switched_off_while_a_mount_starts(layers: HandmadeLayers) -> None:
    """The mount goes on over /dev/fuse, with all its readers."""
    (layers.layer() / "dir").mkdir()
    with _switched_off_later(layers, b"io_uring=off") as (point, pid, _):
        run("ls", point)
        without = _threads(pid)
    with _switched_off_later(layers) as (point, pid, log):
        run("mkdir", point / "dir/made", point / "dir/made/deeper")
        run("rm", "-r", point / "dir/made")
        wait_until(lambda: _threads(pid) == without, "the threads of the rings to end")
    said = log.read_text()
    assert said.count("without io_uring: ") == 1, said
    assert "without io_uring: registering the ring of CPU 0: Operation not supported" in said
    assert "WARNING" not in said


@pytest.mark.usefixtures("switched_off")
def test_io_uring_switched_off_while_a_mount_starts_that_requires_it(
    layers: HandmadeLayers,
) -> None:
    words, point = _that_requires_it(layers)
    command = (sys.executable, "-c", _SWITCHED_OFF_LATER, "-f")
    try:
        done = run(*command, "-o", words, point, env=helper_environment(), check=False)
    finally:
        run("umount", "-l", point, check=False)
    assert done.returncode == 32
    assert done.stderr.decode().endswith(
        "mount.pyunion: io_uring is not available: registering the ring of CPU 0: "
        "Operation not supported; leave out io_uring=on\n"
    )
    assert mount_type(point) is None
    assert os.listdir(layers.work / "work") == []


def test_a_kernel_that_offers_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out at INIT, with the rings already made: they are given up."""

    class Queue:
        joined = False

        def join(self) -> None:
            self.joined = True

    queue = Queue()
    monkeypatch.setattr(dev_fuse, "open_queues", lambda: [queue])
    fs = open_union(UnionConfig(lowers=(os.fsencode(tmp_path),)))
    kernel, ours = socket.socketpair()
    with kernel, ours:
        connection = dev_fuse.Connection(fs, ours.fileno(), Terms(), "on")
        size = abi.IN_HEADER.size + abi.INIT_IN.size
        header = abi.IN_HEADER.pack(size, Opcode.INIT, 1, 0, 0, 0, 0, 0)
        kernel.send(header + abi.INIT_IN.pack(abi.MAJOR, abi.MINOR, 1 << 17, 0))
        with pytest.raises(MountError, match="io_uring is not available: the kernel does not"):
            connection.start()
    assert queue.joined
    fs.close()
