"""The floor in Python: what it keeps packed is what was asked for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from benchmarks.floor_python.answers import Handler, Place, handlers
from benchmarks.floor_python.listings import AT_FIRST, LEAST_LISTED, ROOT
from benchmarks.floor_python.tree import Tree
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import room_of


class Kernel:
    """Sends requests over io_uring to the handlers, without a mount."""

    def __init__(self, tree: Tree) -> None:
        self._head, self._payload = bytearray(abi.URING_HEADER_SIZE), room_of(1 << 16)
        place = Place(self._head, abi.URING_OP_IN, self._payload, self._payload, 0)
        self._handlers: list[Handler] = handlers(tree, place)

    def ask(self, opcode: Opcode, nodeid: int, struct: bytes = b"", rest: bytes = b"") -> bytes:
        """Return the reply; raises the `OSError` that it is."""
        self._head[abi.URING_OP_IN : abi.URING_OP_IN + len(struct)] = struct
        self._payload[: len(rest)] = rest
        length = self._handlers[opcode](nodeid, len(rest))
        if length < 0:
            raise OSError(-length, os.strerror(-length))
        return self._payload[:length]

    def look_up(self, name: bytes) -> tuple[int, int]:
        """Return the number and the mode of a name in the root, both 0 for none."""
        entry = abi.ENTRY_OUT.unpack(self.ask(Opcode.LOOKUP, ROOT, rest=name + b"\0"))
        return entry[0], entry[-7]

    def listed(self, offset: int = 0, size: int = 4096) -> list[tuple[bytes, int]]:
        """Return the names of the root from `offset` on, each with the offset after it."""
        asked = abi.READ_IN.pack(0, offset, size, 0, 0, 0, 0)
        reply, names = self.ask(Opcode.READDIRPLUS, ROOT, asked), []
        while reply:
            _, cookie, length, _ = abi.DIRENT.unpack_from(reply, abi.ENTRY_SIZE)
            end = abi.DIRENTPLUS_SIZE + length
            names.append((reply[abi.DIRENTPLUS_SIZE : end], cookie))
            reply = reply[end + 7 & ~7 :]
        return names


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    for layer, name in (("upper", "both"), ("lower", "both"), ("lower", "below")):
        (tmp_path / layer).mkdir(exist_ok=True)
        (tmp_path / layer / name).write_text(layer)
    (tmp_path / "upper" / "directory").mkdir()
    return Kernel(Tree([str(tmp_path / "upper"), str(tmp_path / "lower")]))


def test_a_name_is_there_until_it_is_removed_or_renamed(kernel: Kernel) -> None:
    number, mode = kernel.look_up(b"both")
    assert stat.S_ISREG(mode)
    kernel.ask(Opcode.RENAME, ROOT, abi.RENAME_IN.pack(ROOT), b"both\0new\0")
    assert kernel.look_up(b"both") == (0, 0)
    assert kernel.look_up(b"new") == (number, mode)
    kernel.ask(Opcode.UNLINK, ROOT, rest=b"new\0")
    with pytest.raises(OSError) as caught:
        kernel.ask(Opcode.UNLINK, ROOT, rest=b"new\0")
    assert caught.value.errno == errno.ENOENT


def test_attributes_are_what_they_were_set_to(kernel: Kernel) -> None:
    number, _ = kernel.look_up(b"below")
    valid = abi.FATTR_MODE | abi.FATTR_UID | abi.FATTR_MTIME
    changes = abi.SETATTR_IN.pack(valid, 0, 0, 0, 0, 77, 0, 0, 5, 0, 0o640, 1234, 0)
    reply = kernel.ask(Opcode.SETATTR, number, changes)
    attr = abi.ATTR.unpack_from(reply, abi.ATTR_HEAD.size)
    assert (attr[1], attr[4], attr[7], attr[9], attr[11]) == (5, 77, 5, stat.S_IFREG | 0o640, 1234)
    assert kernel.ask(Opcode.GETATTR, number) == reply


def test_a_listing_goes_on_after_any_name_although_others_are_gone(kernel: Kernel) -> None:
    whole = kernel.listed()
    assert sorted(name for name, _ in whole) == [b".", b"..", b"below", b"both", b"directory"]
    begin = kernel.listed(size=600)
    assert begin == whole[:3]
    kernel.ask(Opcode.RENAME, ROOT, abi.RENAME_IN.pack(ROOT), begin[-1][0] + b"\0last\0")
    rest = kernel.listed(offset=begin[-1][1])
    assert [name for name, _ in rest] == [*(name for name, _ in whole[3:]), b"last"]
    assert kernel.listed(offset=rest[-1][1]) == []


def test_few_files_are_listed_with_attributes_before_any_is_looked_up(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}").touch()
    kernel = Kernel(Tree([str(tmp_path)]))
    begin = kernel.listed(size=32 << 10)
    assert 0 <= len(begin) * LEAST_LISTED - AT_FIRST < 2 * LEAST_LISTED
    rest = kernel.ask(Opcode.READDIRPLUS, ROOT, abi.READ_IN.pack(0, begin[-1][1], 4096, *[0] * 4))
    assert abi.ENTRY_HEAD.unpack_from(rest)[0] == 0
    kernel.look_up(begin[2][0])  # the one file that was listed without
    assert len(kernel.listed(size=32 << 10)) > 150


def test_a_directory_with_names_is_not_removed(kernel: Kernel) -> None:
    number, _ = kernel.look_up(b"directory")
    kernel.ask(Opcode.MKDIR, number, abi.MKDIR_IN.pack(0o755, 0), b"inner\0")
    with pytest.raises(OSError) as caught:
        kernel.ask(Opcode.RMDIR, ROOT, rest=b"directory\0")
    assert caught.value.errno == errno.ENOTEMPTY
