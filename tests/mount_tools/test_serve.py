"""The life of a mount: signals, a busy end, the log, and what outlives the command."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest
import trio

from mount_tools import serve
from mount_tools.fuse_mount import FuseMount
from mount_tools.options import parse_options
from tests.helpers.mounts import (
    helper_command,
    helper_environment,
    mount_type,
    mounted_union,
    require_fuse,
    require_root,
    run,
    unmount_command,
    wait_until,
)
from tests.mount_tools.conftest import Layers
from unionfs.errors import MountError
from unionfs.vfs import Filesystem, Notifier


def is_running(pid: int) -> bool:
    """Tell whether process `pid` runs; one that nobody has reaped does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_unmount(layers: Layers, number: signal.Signals) -> None:
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        (union.root / "new").write_text("new\n")
        union.process.send_signal(number)
        assert union.process.wait(20) == 0
        assert mount_type(union.root) is None
        union.ended = True
        assert "unmounted from" in union.log()
    assert (layers.upper / "new").read_text() == "new\n"


def test_a_busy_mount_is_served_to_its_end(layers: Layers) -> None:
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        held = os.open(union.root / "from-low", os.O_RDWR)
        try:
            union.process.send_signal(signal.SIGTERM)
            wait_until(lambda: mount_type(union.root) is None, "the mount to be detached")
            assert os.pread(held, 10, 0) == b"low\n"
            os.pwrite(held, b"LOW", 0)
            assert union.process.poll() is None
        finally:
            os.close(held)
        assert union.process.wait(20) == 0
        union.ended = True
    assert (layers.upper / "from-low").read_text() == "LOW\n"


def test_a_signal_leaves_a_later_mount_alone(layers: Layers) -> None:
    require_root()
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        held = os.open(union.root / "from-low", os.O_RDONLY)
        run("umount", "-l", union.root)
        run("mount", "-t", "tmpfs", "tmpfs", union.root)
        try:
            union.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "nothing to unmount" in union.log(), "the signal to be noticed")
            assert mount_type(union.root) == "tmpfs"
        finally:
            os.close(held)
            run("umount", union.root)
        assert union.process.wait(20) == 0
        union.ended = True


def test_sigusr1_logs_the_counters(layers: Layers) -> None:
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        os.listdir(union.root)
        union.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "counters: " in union.log(), "the counters")
        assert "=" in union.log().partition("counters: ")[2]


def test_lazy_unmount_from_outside(layers: Layers) -> None:
    with mounted_union([layers.low], layers.upper, layers.work) as union:
        held = os.open(union.root / "from-low", os.O_RDONLY)
        run(*unmount_command(), "-l" if os.geteuid() == 0 else "-z", union.root)
        assert os.pread(held, 10, 0) == b"low\n"
        assert union.process.poll() is None
        os.close(held)
        assert union.process.wait(20) == 0
        union.ended = True


def test_the_daemon_logs_and_ends(layers: Layers) -> None:
    require_fuse()
    log = layers.base / "log"
    run(
        *helper_command("-d", "-o", f"{layers.words},log={log}", layers.merged),
        env=helper_environment(),
    )
    pid = int(log.read_text().partition("mount.pyunion[")[2].partition("]")[0])
    try:
        assert is_running(pid)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Umask:\t0000" in status
        assert os.getsid(pid) == pid
        limits = Path(f"/proc/{pid}/limits").read_text()
        soft, hard = limits.partition("Max open files")[2].split()[:2]
        assert soft == hard
    finally:
        run(*unmount_command(), layers.merged)
    wait_until(lambda: not is_running(pid), "the daemon to end")
    assert "transport" in log.read_text()
    assert "unmounted from" in log.read_text()


Ready = Callable[[Notifier], None]


class FakeMount:
    """A mount that only notes when it is unmounted."""

    fd = -1
    point = "/nowhere"

    def __init__(self) -> None:
        self.unmounted = trio.Event()

    def unmount(self) -> None:
        trio.from_thread.run_sync(self.unmounted.set)


def session_on(mount: FakeMount, live: Callable[[], None]) -> serve._Session:
    options = parse_options(["lowerdir=/l"], privileged=True)
    return serve._Session(cast(Filesystem, None), cast(FuseMount, mount), options, live)


async def no_signals() -> AsyncGenerator[int, None]:
    await trio.sleep_forever()
    yield 0


async def test_a_mount_nobody_waits_for_is_undone() -> None:
    """The command was killed before the mount was live: its report has no reader."""
    mount = FakeMount()

    async def carry(*args: object, on_ready: Ready, **settings: object) -> None:
        on_ready(cast(Notifier, None))
        with trio.fail_after(20):
            await mount.unmounted.wait()

    def live() -> None:
        raise BrokenPipeError

    async with aclosing(no_signals()) as signals:
        assert await session_on(mount, live).run(cast(serve.Carry, carry), signals)
    assert mount.unmounted.is_set()


@pytest.mark.parametrize("in_use", [False, True])
async def test_a_transport_that_fails(in_use: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A mount in use stays, dead: its users must see errors and not an empty directory."""
    mount = FakeMount()

    async def carry(*args: object, on_ready: Ready, **settings: object) -> None:
        if in_use:
            on_ready(cast(Notifier, None))
        raise RuntimeError("the kernel speaks in tongues")

    async with aclosing(no_signals()) as signals:
        session = session_on(mount, lambda: None)
        assert not await session.run(cast(serve.Carry, carry), signals)
    assert mount.unmounted.is_set() == (not in_use)
    assert "the kernel speaks in tongues" in caplog.text


def test_a_log_that_cannot_be_written_is_refused(layers: Layers) -> None:
    done = run(
        *helper_command("-o", f"{layers.words},log=/proc/no/such.log", layers.merged),
        env=helper_environment(),
        check=False,
    )
    assert done.returncode == 32
    assert done.stderr.startswith(b"mount.pyunion: the log /proc/no/such.log cannot be written")
    assert mount_type(layers.merged) is None


def transport(name: str) -> serve.Carry:
    return serve.load_transport(parse_options([f"lowerdir=/l,transport={name}"], privileged=True))


def test_the_wanted_transport_or_the_reason() -> None:
    from unionfs.transports import pyfuse3_ops

    assert transport("pyfuse3") is pyfuse3_ops.carry
    assert callable(transport("auto"))


def test_a_kernel_too_old_for_the_fast_transport(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from unionfs.transports import dev_fuse, pyfuse3_ops

    monkeypatch.setattr(dev_fuse, "why_not", lambda: "Linux 4.19 is too old")
    with caplog.at_level("INFO"):
        assert transport("auto") is pyfuse3_ops.carry
    assert "transport pyfuse3 (not dev_fuse: Linux 4.19 is too old)" in caplog.text


def test_transports_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "TRANSPORTS", {"pyfuse3": "no_such_a", "dev_fuse": "no_such_b"})
    with pytest.raises(MountError, match=r"pyfuse3: .*no_such_a.*dev_fuse: .*no_such_b"):
        transport("auto")
    with pytest.raises(MountError, match="no transport can be had: dev_fuse: "):
        transport("dev_fuse")
