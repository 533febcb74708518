"""What is read from a trace of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.cell import Wrong
from benchmarks.tracing import device_number, sent

TRACE = "# tracer: nop\n#\n" + "".join(
    f"{task:>16} [001] ..... 100.1: fuse_request_send: connection 50 req 2 opcode {opcode} len 41\n"
    for task, opcode in (
        ("find-123", "1 (FUSE_LOOKUP)"),
        ("find-123", "44 (FUSE_READDIRPLUS)"),
        ("(FUSE_x)-1", "3 (FUSE_GETATTR)"),
        ("find-123", "99 (99)"),
    )
)


def test_opcodes_are_read_whatever_the_process_is_called() -> None:
    assert list(sent(TRACE)) == ["LOOKUP", "READDIRPLUS", "GETATTR", "99"]


def test_device_is_the_kernels_own_number() -> None:
    device = os.stat("/proc").st_dev
    assert device_number(Path("/proc")) == os.major(device) << 20 | os.minor(device)


def test_what_is_no_mount_has_no_device() -> None:
    with pytest.raises(Wrong, match="nothing is mounted"):
        device_number(Path("/etc/passwd"))
