"""One new file of a layer: what is on disk, and what the index says of it."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import xxhash

from layerstore.layer.holes import HOLES
from layerstore.layer.index import digest_file
from layerstore.layer.metadata import Metadata
from layerstore.layer.new_files import FileMaker
from layerstore.layer.tree import Folder
from layerstore.limits import Limits
from layerstore.tar.headers import format_sparse_map
from layerstore.tar.pipeline import Feed
from layerstore.tar.reader import TarEntry, TarReader
from tests.helpers.mounts import require_root
from tests.layerstore.archives import PRIVILEGED, file, header, pax_of, symlink, whole


@contextmanager
def one_entry(
    top: Path, *parts: bytes, privileged: bool = PRIVILEGED
) -> Iterator[tuple[FileMaker, TarEntry, Folder]]:
    """Yield a maker, the first entry of the archive of `parts`, and `top` as a folder."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Feed(io.BytesIO(whole(*parts))) as feed:
            reader = TarReader(feed, lambda data: None, Limits(size=8 << 40))
            maker = FileMaker(feed, reader, Metadata(privileged=privileged))
            yield maker, next(iter(reader)), Folder(fd, b"")
    finally:
        os.close(fd)


def test_a_regular_file_has_content_mode_and_time(tmp_path: Path) -> None:
    content = os.urandom(70_000)
    raw = bytearray()
    with one_entry(tmp_path, file(b"a", content, mode=0o640, mtime=7)) as (maker, entry, top):
        made = maker.regular(entry, top, b"a", b"path/a", raw=raw.extend)
    st = (tmp_path / "a").stat()
    assert (tmp_path / "a").read_bytes() == content == raw
    assert (stat.S_IMODE(st.st_mode), st.st_mtime) == (0o640, 7)
    assert (made.path, made.mode, made.size, made.mtime_ns) == (
        b"path/a",
        st.st_mode,
        len(content),
        st.st_mtime_ns,
    )
    assert made.digest == xxhash.xxh3_128_hexdigest(content)


def test_pages_of_zeros_are_holes(tmp_path: Path) -> None:
    content = b"a" * 5000 + bytes(1 << 20) + b"b"
    with one_entry(tmp_path, file(b"a", content)) as (maker, entry, top):
        made = maker.regular(entry, top, b"a", b"a")
    assert (tmp_path / "a").read_bytes() == content
    assert (tmp_path / "a").stat().st_blocks * 512 < 1 << 17
    assert made.digest == xxhash.xxh3_128_hexdigest(content)


@pytest.mark.parametrize("content", [bytes(1 << 20), b"a" + bytes(4 << 20), bytes(4 << 20) + b"a"])
def test_the_digest_of_large_holes_is_that_of_the_file(tmp_path: Path, content: bytes) -> None:
    with one_entry(tmp_path, file(b"a", content)) as (maker, entry, top):
        made = maker.regular(entry, top, b"a", b"a")
    assert made.digest.startswith(HOLES)
    assert made.digest == digest_file(os.fsencode(tmp_path / "a"))


def test_a_huge_sparse_entry_costs_what_is_in_it(tmp_path: Path) -> None:
    """Before, 4 TiB took 90 s of a processor."""
    size = 4 << 40
    body = format_sparse_map([(size - 1, size)], size) + b"x"
    records = {b"major": b"1", b"minor": b"0", b"realsize": b"%d" % size}
    pax = pax_of({b"GNU.sparse." + key: value for key, value in records.items()})
    began = time.process_time()
    with one_entry(tmp_path, pax, file(b"a", body)) as (maker, entry, top):
        made = maker.regular(entry, top, b"a", b"a")
    assert (made.size, (tmp_path / "a").stat().st_size) == (size, size)
    assert made.digest == digest_file(os.fsencode(tmp_path / "a"))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("existing", ["file", "link"])
def test_an_existing_name_is_never_opened(tmp_path: Path, existing: str) -> None:
    (tmp_path / "victim").write_text("untouched")
    if existing == "file":
        (tmp_path / "a").write_text("untouched")
    else:
        (tmp_path / "a").symlink_to("victim")
    with one_entry(tmp_path, file(b"a", b"new")) as (maker, entry, top):
        with pytest.raises(FileExistsError):
            maker.regular(entry, top, b"a", b"a")
        assert (tmp_path / "a").read_text() == (tmp_path / "victim").read_text() == "untouched"


def test_suid_and_capabilities_survive_the_change_of_owner(tmp_path: Path) -> None:
    require_root()
    caps = bytes.fromhex("0100000200200000000000000000000000000000")
    attributes = pax_of({b"SCHILY.xattr.security.capability": caps})
    parts = attributes, file(b"a", b"x", mode=0o4755, uid=1000, gid=1001)
    with one_entry(tmp_path, *parts) as (maker, entry, top):
        made = maker.regular(entry, top, b"a", b"a")
    st = (tmp_path / "a").stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1000, 1001, 0o4755)
    assert os.getxattr(tmp_path / "a", "security.capability") == caps
    assert (made.uid, made.gid, made.mode) == (1000, 1001, st.st_mode)
    assert made.xattrs == (("security.capability", caps),)


def test_a_symbolic_link_is_made_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    before = (tmp_path / "victim").stat()
    with one_entry(tmp_path, symlink(b"a", b"victim")) as (maker, entry, top):
        made = maker.symlink(entry, top, b"a", b"a")
    assert os.readlink(tmp_path / "a") == "victim"
    assert (made.target, made.size, made.mtime_ns) == (b"victim", 0, 0)
    assert (tmp_path / "a").lstat().st_mtime_ns == 0
    assert (tmp_path / "victim").stat()[:9] == before[:9]


def test_a_device_of_root_is_a_device(tmp_path: Path) -> None:
    require_root()
    parts = header(b"null", b"3", device=(1, 3), mode=0o666)
    with one_entry(tmp_path, parts) as (maker, entry, top):
        made = maker.special(entry, top, b"null", b"null")
    st = (tmp_path / "null").stat()
    assert st.st_mode == made.mode == stat.S_IFCHR | 0o666
    assert st.st_rdev == made.rdev == os.makedev(1, 3)


def test_a_device_without_privilege_is_a_file_that_records_it(tmp_path: Path) -> None:
    parts = header(b"null", b"3", device=(1, 3), mode=0o666)
    with one_entry(tmp_path, parts, privileged=False) as (maker, entry, top):
        made = maker.special(entry, top, b"null", b"null")
    st = (tmp_path / "null").stat()
    assert st.st_mode == made.mode == stat.S_IFREG | 0o600
    recorded = os.getxattr(tmp_path / "null", "user.containers.override_stat")
    assert recorded == b"0:0:0666:char-1-3"
    assert made.rdev == 0
