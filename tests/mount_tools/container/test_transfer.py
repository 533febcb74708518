"""Copies between two trees by docker's rules, of which one changes meanwhile."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.transfer import End, copy, unpack_archive, write_archive
from tests.helpers.mounts import require_root


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[tuple[End, End]]:
    """A source and a target, each a root of its own, and something beside them."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    with ExitStack() as stack:
        ends = []
        for name in ("source", "target"):
            root = tmp_path / name
            root.mkdir()
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, fd)
            ends.append(End(fd, "/", f"in {name}"))
        (tmp_path / "source/file").write_text("file")
        (tmp_path / "source/dir/sub").mkdir(parents=True)
        (tmp_path / "source/dir/in").write_text("in")
        (tmp_path / "source/link").symlink_to("/file")
        (tmp_path / "target/old").write_text("old")
        (tmp_path / "target/folder").mkdir()
        yield ends[0], ends[1]


def listing(root: Path) -> dict[str, str | None]:
    """Return what is beneath `root`: the text of files, None for directories."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize(
    ("source", "target", "made"),
    [
        ("/file", "/new", {"new": "file"}),
        ("/file", "/old", {"old": "file"}),
        ("/file", "/folder", {"folder/file": "file"}),
        ("/file", "/folder/", {"folder/file": "file"}),
        ("/dir", "/new", {"new": None, "new/in": "in", "new/sub": None}),
        ("/dir", "/new/", {"new": None, "new/in": "in", "new/sub": None}),
        ("/dir", "/folder", {"folder/dir": None, "folder/dir/in": "in", "folder/dir/sub": None}),
        ("/dir/", "/folder", {"folder/dir": None, "folder/dir/in": "in", "folder/dir/sub": None}),
        ("/dir/.", "/folder", {"folder/in": "in", "folder/sub": None}),
        ("/dir/.", "/new", {"new": None, "new/in": "in", "new/sub": None}),
        ("/dir/../file", "/../../new", {"new": "file"}),
    ],
)
def test_where_a_copy_goes(
    trees: tuple[End, End], tmp_path: Path, source: str, target: str, made: dict[str, str | None]
) -> None:
    before = listing(tmp_path / "target")
    copy(
        trees[0]._replace(path=source),
        trees[1]._replace(path=target),
        follow=False,
        keep_owners=False,
    )
    assert listing(tmp_path / "target") == before | made


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("/none", "/new", "Could not find the file /none in source"),
        ("/file/", "/new", "Could not find the file /file/"),
        ("/file/.", "/new", "Could not find"),
        ("/file", "/none/", "there is no directory /none/ in target"),
        ("/file", "/none/new", "/none in target is no directory"),
        ("/file", "/old/", "there is no directory /old/ in target: make it"),
        ("/dir", "/old", "a directory cannot take its place"),
        ("/dir/.", "/old", "a directory cannot take its place"),
        ("/file", "/clash", "a directory file is there"),
    ],
)
def test_what_is_refused_leaves_the_target(
    trees: tuple[End, End], tmp_path: Path, source: str, target: str, said: str
) -> None:
    (tmp_path / "target/clash/file").mkdir(parents=True)
    before = listing(tmp_path / "target")
    with pytest.raises(StoreError, match=said):
        copy(
            trees[0]._replace(path=source),
            trees[1]._replace(path=target),
            follow=False,
            keep_owners=False,
        )
    assert listing(tmp_path / "target") == before


def test_links_are_copied_or_followed(trees: tuple[End, End], tmp_path: Path) -> None:
    for follow, kind in ((False, stat.S_ISLNK), (True, stat.S_ISREG)):
        copy(
            trees[0]._replace(path="/link"),
            trees[1]._replace(path=f"/{follow}"),
            follow=follow,
            keep_owners=False,
        )
        assert kind(os.lstat(tmp_path / "target" / str(follow)).st_mode)


@pytest.mark.parametrize("target", ["/../outside", "../../outside", "../outside"])
def test_no_link_of_the_target_leads_out(
    trees: tuple[End, End], tmp_path: Path, target: str
) -> None:
    (tmp_path / "target/out").symlink_to(target)
    with pytest.raises(StoreError, match="no directory"):
        copy(
            trees[0]._replace(path="/file"),
            trees[1]._replace(path="/out/secret"),
            follow=False,
            keep_owners=False,
        )
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("out/secret")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"bad"))
    archive.seek(0)
    unpack_archive(archive, trees[1], keep_owners=True)
    assert listing(tmp_path / "outside") == {"secret": "secret"}


def test_no_link_of_the_source_leads_out(trees: tuple[End, End], tmp_path: Path) -> None:
    (tmp_path / "source/out").symlink_to(tmp_path / "outside")
    for path in ("/out/secret", "/out/."):
        with pytest.raises(StoreError, match="Could not find"):
            write_archive(trees[0]._replace(path=path), io.BytesIO(), follow=True)


def test_a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere(
    trees: tuple[End, End], tmp_path: Path
) -> None:
    """CVE-2018-15664: what docker had resolved was a link when it was opened."""
    inside, link = tmp_path / "target/place", tmp_path / "target/link"
    inside.mkdir()
    link.symlink_to(tmp_path / "outside")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            inside.rename(tmp_path / "target/aside")
            link.rename(inside)
            inside.rename(link)
            (tmp_path / "target/aside").rename(inside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(300):
            try:
                copy(
                    trees[0]._replace(path="/file"),
                    trees[1]._replace(path="/place/secret"),
                    follow=False,
                    keep_owners=False,
                )
            except StoreError:
                continue
    finally:
        over.set()
        swapper.join()
    assert listing(tmp_path / "outside") == {"secret": "secret"}


def test_every_kind_of_file_and_one_file_of_two_names(
    trees: tuple[End, End], tmp_path: Path
) -> None:
    source = tmp_path / "source/dir"
    os.link(source / "in", source / "sub/again")
    os.mkfifo(source / "fifo", 0o640)
    (source / "in").chmod(0o751)
    os.utime(source / "in", ns=(5_000_000_000, 7_000_000_000))
    name = os.fsdecode(b"bad\xff\nname" + b"x" * 200)
    (source / name).write_text("named")
    copy(
        trees[0]._replace(path="/dir"),
        trees[1]._replace(path="/new"),
        follow=False,
        keep_owners=False,
    )
    made = tmp_path / "target/new"
    st = (made / "in").stat()
    assert (st.st_nlink, stat.S_IMODE(st.st_mode), st.st_mtime) == (2, 0o751, 7)
    assert stat.S_ISFIFO((made / "fifo").lstat().st_mode)
    assert (made / name).read_text() == "named"


def test_an_archive_is_what_is_there_and_comes_back(trees: tuple[End, End], tmp_path: Path) -> None:
    archive = io.BytesIO()
    write_archive(trees[0]._replace(path="/dir"), archive, follow=False)
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        assert sorted(tar.getnames()) == ["dir", "dir/in", "dir/sub"]
    archive.seek(0)
    unpack_archive(archive, trees[1]._replace(path="/folder"), keep_owners=True)
    assert (tmp_path / "target/folder/dir/in").read_text() == "in"
    with pytest.raises(StoreError):
        unpack_archive(io.BytesIO(b"no tar" * 1000), trees[1], keep_owners=True)


def test_a_copy_on_this_machine_gives_nobody_rights(trees: tuple[End, End], tmp_path: Path) -> None:
    """Else a program of a container's user would be one of root here, for everybody."""
    require_root()
    source, made = tmp_path / "source/dir", tmp_path / "target/made"
    for name, mode in (("program", 0o6755), ("plain", 0o644)):
        (source / name).write_text("x")
        os.chown(source / name, 1000, 1000)
        os.chmod(source / name, mode)
    capability = bytes.fromhex("0100000280000000000000000000000000000000")
    os.setxattr(source / "plain", "security.capability", capability)
    os.mknod(source / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.chmod(source / "device", 0o666)
    os.chmod(source / "sub", 0o2755)

    def modes(*, on_host: bool, keep_owners: bool) -> list[int]:
        target = trees[1]._replace(path="/made", on_host=on_host)
        copy(trees[0]._replace(path="/dir"), target, follow=False, keep_owners=keep_owners)
        names = ("program", "device", "sub")
        found = [stat.S_IMODE((made / name).stat().st_mode) for name in names]
        found.append(len(os.listxattr(made / "plain")))
        shutil.rmtree(made)
        return found

    assert modes(on_host=True, keep_owners=False) == [0o755, 0o600, 0o2755, 0]
    assert modes(on_host=True, keep_owners=True) == [0o6755, 0o666, 0o2755, 1]
    assert modes(on_host=False, keep_owners=False) == [0o6755, 0o666, 0o2755, 1]


def test_a_copy_that_fails_does_not_wait_for_the_rest(
    trees: tuple[End, End], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    (tmp_path / "source/large").write_bytes(bytes(4 << 20))
    monkeypatch.setattr("mount_tools.container.transfer.unpack_tree", fail)
    with pytest.raises(StoreError, match="the disk is full"):
        copy(
            trees[0]._replace(path="/large"),
            trees[1]._replace(path="/new"),
            follow=False,
            keep_owners=False,
        )


def test_a_source_that_cannot_be_read_is_what_the_error_says(
    trees: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(archive: tarfile.TarFile, *_: object) -> None:
        assert archive.fileobj is not None
        archive.fileobj.write(b"a part of a header")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(tarfile.TarFile, "addfile", fail)
    with pytest.raises(StoreError, match="cannot be copied: Input/output error"):
        copy(
            trees[0]._replace(path="/file"),
            trees[1]._replace(path="/new"),
            follow=False,
            keep_owners=False,
        )
