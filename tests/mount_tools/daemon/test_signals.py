"""What signals do to a mount; with real mounts: see test_serve."""

from __future__ import annotations

import signal
from typing import cast

import pytest

from mount_tools.daemon.signals import SignalHandler
from mount_tools.mount.fuse import FuseMount
from unionfs.vfs import Filesystem


class BusyMount:
    point = "/nowhere"
    device = None
    unmounts = 0

    def unmount(self) -> None:
        self.unmounts += 1
        if self.unmounts == 1:
            raise OSError(16, "busy")


class Counting:
    def counters(self) -> dict[str, int]:
        return {"copy_ups": 3}


def test_signals_on_a_mount_that_cannot_be_unmounted_at_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    mount = BusyMount()
    handler = SignalHandler(cast(Filesystem, Counting()), cast(FuseMount, mount))
    handler.take(signal.SIGUSR1)
    assert "copy_ups=3" in caplog.text and mount.unmounts == 0
    handler.take(signal.SIGTERM)
    assert "still serving it" in caplog.text
    handler.take(signal.SIGTERM)
    assert mount.unmounts == 2, "the first did not unmount, so the second tries again"
    handler.take(signal.SIGTERM)
    assert mount.unmounts == 2 and "aborting the connection" in caplog.text
