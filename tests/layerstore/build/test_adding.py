"""ADD of archives: what counts as one, what becomes of it, and hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from layerstore.build.adding import is_archive
from layerstore.containerfile.errors import ContainerfileError
from tests.layerstore.build.mini_build import build, listing, written

PRIVILEGED = os.geteuid() == 0
Fill = Callable[[tarfile.TarFile], None]


def put(tar: tarfile.TarFile, name: str, data: bytes | None = None, **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.mtime = 1_000_000_001
    info.size = len(data or b"")
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data) if data is not None else None)


def usual(tar: tarfile.TarFile) -> None:
    put(tar, "dir", type=tarfile.DIRTYPE, mode=0o750)
    put(tar, "dir/f", b"hello", mode=0o711)
    put(tar, "dir/l", type=tarfile.SYMTYPE, linkname="f")
    put(tar, "dir/h", type=tarfile.LNKTYPE, linkname="dir/f", mode=0o711)
    put(tar, "fifo", type=tarfile.FIFOTYPE, mode=0o600)
    put(tar, "./dot/x", b"x")
    put(tar, "/abs", b"abs")
    put(tar, "f2", b"1")
    put(tar, "f2", b"2")


Mode = Literal["w", "w:gz", "w:bz2", "w:xz"]


def archive(path: Path, fill: Fill, mode: Mode = "w", kind: int = tarfile.GNU_FORMAT) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode, format=kind) as tar:
        fill(tar)


def added(tmp_path: Path, fill: Fill, line: str = "ADD a /x/y/") -> Path:
    archive(tmp_path / "context/a", fill)
    return build(f"FROM scratch\n{line}", tmp_path / "context", tmp_path).root


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_is_unpacked_whatever_its_name(tmp_path: Path, mode: Mode, kind: int) -> None:
    archive(tmp_path / "context/odd.name", usual, mode, kind)
    text = "FROM scratch\nADD odd.name /x"
    root = build(text, tmp_path / "context", tmp_path).root / "x"
    found = {path: text.split()[0] for path, text in listing(root).items()}
    assert found == {
        "abs": "-rw-r--r--",
        "dir": "drwxr-x---",
        "dir/f": "-rwx--x--x",
        "dir/h": "-rwx--x--x",
        "dir/l": "lrwxrwxrwx",
        "dot": "drwxr-xr-x",
        "dot/x": "-rw-r--r--",
        "f2": "-rw-r--r--",
        "fifo": "prw-------",
    }
    assert (root / "f2").read_text() == "2"
    assert os.path.samefile(root / "dir/f", root / "dir/h")
    assert {os.lstat(root / name).st_mtime for name in ("dir", "dir/f", "dir/l", "fifo")} == {
        1_000_000_001
    }


def test_copy_and_unpack_false_do_not_unpack(tmp_path: Path) -> None:
    archive(tmp_path / "context/a.tar", usual)
    text = "FROM scratch\nCOPY a.tar /c/\nADD --unpack=false a.tar /d/"
    root = build(text, tmp_path / "context", tmp_path).root
    assert list(listing(root)) == ["c", "c/a.tar", "d", "d/a.tar"]


@pytest.mark.parametrize(
    ("content", "is_one"),
    [
        (b"", False),
        (b"text", False),
        (b"x" * 2000, False),
        (gzip.compress(b"text" * 1000), False),
        (b"\x1f\x8b broken", False),
        (bytes(10_240), False),  # an empty archive
        (b"BZh broken" + bytes(600), False),
    ],
)
def test_what_counts_as_an_archive(tmp_path: Path, content: bytes, is_one: bool) -> None:
    assert is_archive(io.BytesIO(content)) is is_one
    written(tmp_path / "context", {})
    (tmp_path / "context/f").write_bytes(content)
    root = build("FROM scratch\nADD f /x/", tmp_path / "context", tmp_path).root
    assert (root / "x/f").read_bytes() == content


def test_archives_and_files_together(tmp_path: Path) -> None:
    archive(tmp_path / "context/a", lambda tar: put(tar, "in", b""))
    written(tmp_path / "context", {"b": ""})
    root = build("FROM scratch\nADD a b /x/", tmp_path / "context", tmp_path).root
    assert list(listing(root)) == ["x", "x/b", "x/in"]


def test_what_is_there_is_merged_or_gives_way(tmp_path: Path) -> None:
    written(tmp_path / "context", {"d/dir/kept": "", "d/f2/old": "", "d/dot": "->nothing"})
    root = added(tmp_path, usual, "COPY d /x\nADD a /x")
    assert {"x/dir/kept", "x/dir/f", "x/f2"} <= set(listing(root))
    assert (root / "x/f2").is_file()


def test_entries_take_each_others_place(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        put(tar, "p", b"f")
        put(tar, "p", type=tarfile.DIRTYPE, mode=0o755)
        put(tar, "p/q", b"q")
        put(tar, "r", type=tarfile.DIRTYPE, mode=0o755)
        put(tar, "r/q", b"q")
        put(tar, "r", b"f")

    root = added(tmp_path, fill)
    assert list(listing(root / "x/y")) == ["p", "p/q", "r"]
    assert (root / "x/y/r").read_text() == "f"


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("../../evil", {}, "leads out of it"),
        ("a/../../evil", {}, "leads out of it"),
        ("h", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"}, "leads out of it"),
        ("h", {"type": tarfile.LNKTYPE, "linkname": "none"}, "a hard link to something that is"),
        (".", {}, "in place of the root directory"),
    ],
)
def test_an_unsafe_archive_is_refused(
    tmp_path: Path, name: str, fields: dict[str, object], reason: str
) -> None:
    with pytest.raises(ContainerfileError, match=f"Containerfile:2: a: .*{reason}"):
        added(tmp_path, lambda tar: put(tar, name, b"", **fields))
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("target", ["/", "../../../../..", "/etc"])
def test_links_of_an_archive_are_within_the_destination(tmp_path: Path, target: str) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        put(tar, "l", type=tarfile.SYMTYPE, linkname=target)
        put(tar, "l/evil", b"e")

    root = added(tmp_path, fill)
    evil = "x/y/etc/evil" if target == "/etc" else "x/y/evil"
    assert [str(path.relative_to(root)) for path in root.rglob("evil")] == [evil]


def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "context/whole", usual)
    data = (tmp_path / "context/whole").read_bytes()
    (tmp_path / "context/a").write_bytes(data[:1500])
    with pytest.raises(ContainerfileError, match="Containerfile:2: a: the archive is cut short"):
        build("FROM scratch\nADD a /x", tmp_path / "context", tmp_path)


@pytest.mark.skipif(not PRIVILEGED, reason="gives files to others")
def test_owners_are_the_archives_or_those_of_chown(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        put(tar, "f", b"", uid=3, gid=4, mode=0o4755)
        put(tar, "d", type=tarfile.DIRTYPE, uid=5, gid=6, mode=0o700)

    root = added(tmp_path, fill, "ADD a /x\nADD --chown=7:8 --chmod=711 a /n")
    shown = {path: text.rsplit(" b", 1)[0] for path, text in listing(root).items()}
    assert shown == {
        "n": "drwx--x--x 7:8",
        "n/d": "drwx--x--x 7:8",
        "n/f": "-rwx--x--x 7:8",
        "x": "drwxr-xr-x 0:0",
        "x/d": "drwx------ 5:6",
        "x/f": "-rwsr-xr-x 3:4",
    }


@pytest.mark.skipif(not PRIVILEGED, reason="gives files to others")
def test_the_last_entry_of_a_file_with_two_names_decides(tmp_path: Path) -> None:
    """As docker 20.10 does it; `c` has what docker loses: its entries say the same."""
    capability = bytes.fromhex("0100000200200000000000000000000000000000")

    def fill(tar: tarfile.TarFile) -> None:
        put(tar, "a", b"x", mode=0o4755, uid=3, gid=4)
        put(tar, "b", type=tarfile.LNKTYPE, linkname="a", mode=0o600, uid=7, gid=8, mtime=5)
        xattrs = {"SCHILY.xattr.security.capability": capability.decode("latin-1")}
        put(tar, "c", b"x", mode=0o755, uid=3, gid=4, pax_headers=xattrs)
        put(tar, "d", type=tarfile.LNKTYPE, linkname="c", mode=0o755, uid=3, gid=4)

    archive(tmp_path / "context/a", fill, kind=tarfile.PAX_FORMAT)
    root = build("FROM scratch\nADD a /", tmp_path / "context", tmp_path).root
    assert listing(root)["a"].startswith("-rw------- 7:8")
    assert os.path.samefile(root / "a", root / "b")
    assert (root / "a").stat().st_mtime == 5
    assert os.getxattr(root / "d", "security.capability") == capability


def test_many_directories_take_few_descriptors(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        for number in range(300):
            put(tar, f"d{number}/f", b"x")
        for number in range(300):
            put(tar, f"d{number}/g", type=tarfile.LNKTYPE, linkname=f"d{299 - number}/f")

    before = len(os.listdir("/proc/self/fd"))
    root = added(tmp_path, fill)
    assert len(list(root.rglob("g"))) == 300
    assert len(os.listdir("/proc/self/fd")) == before
