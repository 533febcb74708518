"""Notices byte by byte."""

from __future__ import annotations

from unionfs.types import NodeId
from unionfs.wire import notify


def test_an_inode() -> None:
    assert notify.inode(NodeId(0x1122), -1, 0).hex(" ", 8) == (
        "2800000002000000 0000000000000000 2211000000000000 ffffffffffffffff 0000000000000000"
    )


def test_a_name() -> None:
    """Its length is counted without the NUL that follows it."""
    assert notify.entry(NodeId(1), b"name") == bytes.fromhex(
        "25000000 03000000 0000000000000000 0100000000000000 04000000 00000000 6e616d65 00"
    )


def test_pages() -> None:
    assert (
        notify.pages(NodeId(0x1122), 4) + b"data"
        == bytes.fromhex(
            "2c000000 04000000 0000000000000000 2211000000000000 0000000000000000 04000000 00000000"
        )
        + b"data"
    )
