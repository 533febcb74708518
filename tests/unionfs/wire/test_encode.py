"""Attributes in a reply, and how long the kernel may keep them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from unionfs.types import Attr, NodeId, StIno
from unionfs.wire import abi
from unionfs.wire.encode import FOREVER, Encoder
from unionfs.wire.request import Request

BODY = 16
NODEID = NodeId(42)


@pytest.fixture
def attr(tmp_path: Path) -> Attr:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    os.utime(path, ns=(5_000_000_006, -1))
    return Attr(NODEID, StIno(77), 3, 1000, 1001, 8, path.stat())


def new_request() -> Request:
    out = bytearray(512)
    return Request(bytearray(), 0, bytearray(), out, BODY)


def entry_validity(encoder: Encoder, attr: Attr) -> tuple[int, int, int, int]:
    """Return entry_valid, attr_valid and their ns."""
    request = new_request()
    assert encoder.entry(attr, request) == abi.ENTRY_SIZE
    nodeid, valid = abi.ENTRY_HEAD.unpack_from(request.out, BODY)
    assert nodeid == attr.nodeid
    _, entry_valid, attr_valid, entry_ns, attr_ns = abi.ENTRY_VALID.unpack(valid)
    return entry_valid, attr_valid, entry_ns, attr_ns


def attr_validity(encoder: Encoder, attr: Attr) -> tuple[int, int]:
    """Return attr_valid and its ns."""
    request = new_request()
    assert encoder.attributes(attr, request) == abi.ATTR_SIZE
    valid, ns, _ = abi.ATTR_HEAD.unpack_from(request.out, BODY)
    return valid, ns


def test_the_attributes_are_those_of_the_union_and_then_of_the_file(attr: Attr) -> None:
    request = new_request()
    Encoder(None).attributes(attr, request)
    fields = abi.ATTR.unpack_from(request.out, BODY + abi.ATTR_HEAD.size)
    assert fields[:3] == (77, 5, 8)
    assert (fields[3], fields[6]) == (5, 6), "atime"
    assert (fields[4], fields[7]) == (-1, 999_999_999), "mtime before 1970"
    assert fields[9:13] == (attr.st.st_mode, 3, 1000, 1001)


@pytest.mark.parametrize(
    ("timeout", "valid"), [(None, (FOREVER, 0)), (2.5, (2, 500_000_000)), (0.0, (0, 0))]
)
def test_names_and_attributes_are_valid_as_long(
    attr: Attr, timeout: float | None, valid: tuple[int, int]
) -> None:
    encoder = Encoder(timeout)
    seconds, ns = valid
    assert entry_validity(encoder, attr) == (seconds, seconds, ns, ns)
    assert attr_validity(encoder, attr) == encoder.validity(attr) == valid


def test_attributes_of_a_file_mapped_for_writing_are_not_kept(attr: Attr) -> None:
    """A store through the mapping changes the times without a request."""
    encoder = Encoder(None)
    encoder.add_writer(NODEID, mapped=True)
    encoder.add_writer(NODEID, mapped=False)
    assert entry_validity(encoder, attr) == (FOREVER, 0, 0, 0)
    assert attr_validity(encoder, attr) == encoder.validity(attr) == (0, 0)
    other = attr._replace(nodeid=NodeId(NODEID + 1))
    assert encoder.validity(other) == (FOREVER, 0)
    encoder.remove_writer(NODEID, mapped=True)
    assert encoder.validity(attr) == (FOREVER, 0)


def test_attributes_of_a_suid_file_are_not_kept_while_it_is_written(
    attr: Attr, tmp_path: Path
) -> None:
    path = tmp_path / "suid"
    path.touch()
    path.chmod(stat.S_ISUID | 0o755)
    suid = attr._replace(st=path.stat())
    encoder = Encoder(None)
    encoder.add_writer(NODEID, mapped=False)
    assert encoder.validity(suid) == (0, 0)
    assert encoder.validity(attr) == (FOREVER, 0)
    encoder.remove_writer(NODEID, mapped=False)
    assert encoder.validity(suid) == (FOREVER, 0)


def test_an_absent_name_has_nodeid_0_and_a_validity() -> None:
    request = new_request()
    assert Encoder(1.25).absent(request) == abi.ENTRY_SIZE
    nodeid, valid = abi.ENTRY_HEAD.unpack_from(request.out, BODY)
    assert nodeid == 0
    assert abi.ENTRY_VALID.unpack(valid)[1::2] == (1, 250_000_000)
