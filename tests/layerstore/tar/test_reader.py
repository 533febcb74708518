"""Archives of every writer at hand, read as those meant them and put together again exactly."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from layerstore.errors import InvalidImage, LimitExceeded
from layerstore.tar.headers import pax_number
from tests.helpers.drivers import OsDriver
from tests.helpers.mounts import require_root
from tests.helpers.trees import assert_same, snapshot
from tests.layerstore.archives import (
    Site,
    extended,
    file,
    header,
    octal,
    padded,
    pax,
    pax_of,
    record,
    whole,
    with_sum,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of everything that tar can hold in all its formats."""
    require_root()
    top = tmp_path / "tree"
    (top / "sub/deeper").mkdir(parents=True)
    (top / "sub/text").write_text("text\n" * 300)
    (top / "sub/empty").touch()
    (top / "link").symlink_to("sub/text")
    os.link(top / "sub/text", top / "zlink")
    os.mkfifo(top / "pipe", 0o640)
    os.mknod(top / "null", 0o20666, os.makedev(1, 3))
    os.chown(top / "sub/empty", 1000, 1001)
    os.chmod(top / "sub/text", 0o6755)
    for path in [*top.rglob("*"), top]:
        os.utime(path, (10**9, 10**9), follow_symlinks=False)
    return top


def enrich(top: Path) -> None:
    """Add what only some of the formats can hold."""
    long = top / ("d" * 120) / ("e" * 120)
    long.mkdir(parents=True)
    (long / ("f" * 150)).write_text("x")
    (top / "far").symlink_to("t" * 250)
    (top / os.fsdecode(b"caf\xe9")).write_text("latin")
    sparse = top / "sparse"
    with sparse.open("wb") as out:
        for offset in (1 << 20, 5 << 20, 9 << 20):
            out.seek(offset)
            out.write(b"data" * 1024)
        out.truncate(12 << 20)
    for path in [*top.rglob("*"), top]:
        os.utime(path, (10**9, 10**9), follow_symlinks=False)


def check(site: Site, archive: bytes, tree: Path) -> None:
    site.unpack(archive, whole=True)
    site.check(archive)
    assert_same(snapshot(OsDriver(tree)), snapshot(OsDriver(site.diff)))


@pytest.mark.parametrize("form", ["v7", "ustar", "oldgnu", "gnu", "posix"])
def test_gnu_tar(site: Site, tree: Path, form: str) -> None:
    if form not in ("v7", "ustar"):
        enrich(tree)
        os.setxattr(tree / "sub/text", "user.name", b"\0binary\n\xff")
    if form == "v7":
        for name in ("pipe", "null"):
            (tree / name).unlink()
        os.utime(tree, (10**9, 10**9))
    options = ["--xattrs", "--xattrs-include=*"] if form == "posix" else []
    if form not in ("posix", "v7", "ustar"):
        os.removexattr(tree / "sub/text", "user.name")
    done = subprocess.run(
        ["tar", f"--format={form}", *options, "-C", tree, "-cf", "-", "."],
        check=True,
        capture_output=True,
    )
    check(site, done.stdout, tree)


@pytest.mark.parametrize("version", ["oldgnu", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(site: Site, tree: Path, version: str) -> None:
    enrich(tree)
    many = tree / "many"
    with many.open("wb") as out:
        for number in range(40):
            out.seek(number << 16)
            out.write(b"%d" % number)
        out.truncate(41 << 16)
    os.utime(many, (10**9, 10**9))
    os.utime(tree, (10**9, 10**9))
    options = ["--format=oldgnu"]
    if version != "oldgnu":
        options = ["--format=posix", f"--sparse-version={version}"]
    done = subprocess.run(
        ["tar", "-S", *options, "-C", tree, "-cf", "-", "."], check=True, capture_output=True
    )
    assert len(done.stdout) < 1 << 20
    check(site, done.stdout, tree)
    assert (site.diff / "sparse").stat().st_blocks * 512 < 1 << 17


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pythons_tarfile(site: Site, tree: Path, form: int) -> None:
    if form != tarfile.USTAR_FORMAT:
        enrich(tree)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        tar.add(tree, ".")
    check(site, out.getvalue(), tree)


@pytest.mark.parametrize("command", [["bsdtar"], ["busybox", "tar"]])
def test_other_tars(site: Site, tree: Path, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, "-C", tree, "-cf", "-", "."], check=True, capture_output=True)
    check(site, done.stdout, tree)


def test_later_headers_win(site: Site) -> None:
    site.good(
        header(b"././@LongLink", b"L", 5) + padded(b"long\0"),
        pax(path=b"pax", size=b"3"),
        header(b"short", b"0", 0) + padded(b"abc"),
        extended(record(b"path", b"global"), b"g"),
        file(b"plain", b"x"),
    )
    assert sorted(os.listdir(site.diff)) == ["pax", "plain"]
    assert (site.diff / "pax").read_bytes() == b"abc"


def test_an_empty_pax_value_leaves_that_of_the_header(site: Site) -> None:
    """As in Go, by which docker reads archives."""
    empty = pax(path=b"", linkpath=b"", size=b"", uid=b"", gid=b"", mtime=b"")
    site.good(empty, file(b"plain", b"abc", mtime=7))
    assert (site.diff / "plain").read_bytes() == b"abc"
    assert (site.diff / "plain").stat().st_mtime == 7


def test_links_and_directories_have_no_content(site: Site) -> None:
    site.good(
        file(b"a", b"x"),
        header(b"b", b"1", 12345, linkname=b"a"),
        header(b"c", b"2", 12345, linkname=b"a"),
        header(b"d", b"5", 12345),
        header(b"e/", b"0", 0),
        header(b"f/", b"\0", 0),
        file(b"g", b"y"),
    )
    assert sorted(os.listdir(site.diff)) == list("abcdefg")
    assert (site.diff / "e").is_dir() and (site.diff / "f").is_dir()


def test_a_directory_by_its_slash_hides_nothing_in_its_content(site: Site) -> None:
    for kind in (b"0", b"\0"):
        with pytest.raises(InvalidImage, match="a directory with content"):
            site.unpack(whole(header(b"e/", kind, 512), file(b"smuggled")))


def sparse_header(pairs: list[tuple[int, int]], size: int, stored: int) -> bytes:
    block = bytearray(header(b"sparse", b"S", stored, magic=b"ustar  \0"))
    for index, (offset, length) in enumerate(pairs):
        block[386 + 24 * index : 410 + 24 * index] = octal(offset, 12) + octal(length, 12)
    block[483:495] = octal(size, 12)
    return with_sum(bytes(block))


@pytest.mark.parametrize(
    ("pairs", "size"),
    [
        ([(0, 4), (2, 4)], 100),  # overlapping
        ([(8, 4), (0, 4)], 100),  # backwards
        ([(0, 4), (98, 4)], 100),  # beyond the end
        ([(0, 4)], 100),  # less than is stored
        ([(0, 8), (10, 8)], 100),  # more
    ],
)
def test_sparse_maps_that_lie(site: Site, pairs: list[tuple[int, int]], size: int) -> None:
    with pytest.raises(InvalidImage, match="the sparse map"):
        site.unpack(whole(sparse_header(pairs, size, 8), padded(b"12345678")))


def test_sparse_bombs(site: Site) -> None:
    with pytest.raises(LimitExceeded, match="files of the archive"):
        site.unpack(
            whole(pax_of({b"GNU.sparse.map": b"", b"GNU.sparse.size": b"9" * 18}), file(b"sparse"))
        )
    version = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"9"}
    with pytest.raises(LimitExceeded, match="too many pieces"):
        site.unpack(whole(pax_of(version), file(b"sparse", b"99999999\n".ljust(512))))
    with pytest.raises(InvalidImage, match="the sparse map"):
        site.unpack(whole(pax_of(version), file(b"sparse", b"1\n5".ljust(512, b"5"))))


def test_a_long_sparse_map_is_read_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[bytes] = []

    def counted(value: bytes, what: str) -> int:
        numbers.append(value)
        return pax_number(value, what)

    monkeypatch.setattr("layerstore.tar.reader.pax_number", counted)
    pairs = 10_000
    table = padded(b"%d\n" % pairs + b"0\n0\n" * pairs)
    version = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"9"}
    site.good(pax_of(version), file(b"sparse", table))
    assert (site.diff / "sparse").read_bytes() == bytes(9)
    assert len(numbers) == 2 * pairs + 2
