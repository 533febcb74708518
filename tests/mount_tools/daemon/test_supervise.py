"""The supervisor of a live mount: what it reports, and what it does when a transport fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest
import trio

from mount_tools.daemon.supervise import Supervisor
from mount_tools.daemon.transport import OnReady
from mount_tools.mount.fuse import FuseMount
from unionfs.vfs import Filesystem, Notifier


class FakeMount:
    """A mount that only notes when it is unmounted."""

    fd = -1
    point = "/nowhere"
    device = None

    def __init__(self) -> None:
        self.unmounted = trio.Event()

    def unmount(self) -> None:
        trio.from_thread.run_sync(self.unmounted.set)


def session_on(mount: FakeMount, live: OnReady) -> Supervisor:
    return Supervisor(cast(Filesystem, None), cast(FuseMount, mount), live)


async def no_signals() -> AsyncGenerator[int, None]:
    await trio.sleep_forever()
    yield 0


async def test_a_mount_nobody_waits_for_is_undone() -> None:
    """The command was killed before the mount was live: its report has no reader."""
    mount = FakeMount()

    async def carry(on_ready: OnReady) -> None:
        on_ready(cast(Notifier, "the notifier"))
        with trio.fail_after(20):
            await mount.unmounted.wait()

    def live(_notifier: Notifier) -> None:
        raise BrokenPipeError

    async with aclosing(no_signals()) as signals:
        assert await session_on(mount, live).run(carry, signals)
    assert mount.unmounted.is_set()


@pytest.mark.parametrize("in_use", [False, True])
async def test_a_transport_that_fails(in_use: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A mount in use stays, dead: its users must see errors and not an empty directory."""
    mount = FakeMount()

    async def carry(on_ready: OnReady) -> None:
        if in_use:
            on_ready(cast(Notifier, "the notifier"))
        raise RuntimeError("the kernel speaks in tongues")

    async with aclosing(no_signals()) as signals:
        session = session_on(mount, lambda _notifier: None)
        assert not await session.run(carry, signals)
    assert mount.unmounted.is_set() == (not in_use)
    assert "the kernel speaks in tongues" in caplog.text
