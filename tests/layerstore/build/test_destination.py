"""The tree that is copied into: links, missing directories, and what gives way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.build.destination import Destination
from layerstore.build.owner import ROOT, Owner
from layerstore.errors import StoreError
from layerstore.layer.metadata import Metadata
from layerstore.layer.records import OVERRIDE_STAT
from tests.layerstore.build.mini_build import listing, written

PRIVILEGED = os.geteuid() == 0


@pytest.fixture
def to(tmp_path: Path) -> Iterator[Destination]:
    written(tmp_path / "outside", {"x": ""})
    written(
        tmp_path / "root",
        {
            "d/f": "f",
            "ld": "->/d",
            "up": "->../../../../d",
            "out": "->../outside",
            "dangling": "->/new/place",
            "loop": "->loop",
            "f": "f",
        },
    )
    fd = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield Destination(fd, Metadata(privileged=PRIVILEGED))
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/", ""),
        ("/d", "d"),
        ("d//./", "d"),
        ("/ld", "d"),
        ("/up", "d"),
        ("/../../d", "d"),
        ("/d/../d", "d"),
        ("/dangling", "new/place"),
        ("/dangling/more", "new/place/more"),
        ("/out", "outside"),
        ("/a/b/c", "a/b/c"),
    ],
)
def test_folder(to: Destination, tmp_path: Path, path: str, real: str) -> None:
    fd, made = to.folder(path)
    try:
        assert os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / "root" / real).rstrip("/")
        assert made is (real not in ("", "d"))
    finally:
        os.close(fd)
    assert list(listing(tmp_path / "outside")) == ["x"]
    if made:
        assert stat.S_IMODE(os.stat(tmp_path / "root" / real).st_mode) == 0o755


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/f/x", "Not a directory"), ("/f", "Not a directory"), ("/loop/x", "Too many levels")],
)
def test_what_can_be_no_folder(to: Destination, path: str, reason: str) -> None:
    with pytest.raises(StoreError, match=f"^{path} in the image cannot be written: {reason}"):
        to.folder(path)


def test_locate(to: Destination) -> None:
    for path, name, there in [
        ("/d/f", b"f", True),
        ("/ld/f", b"f", True),
        ("/d/new", b"new", False),
        ("/dangling", b"place", False),
        ("/x/y/z", b"z", False),
        ("/", b"", True),
        ("/d/..", b"", True),
    ]:
        place = to.locate(path)
        os.close(place.fd)
        assert (place.name, place.st is not None) == (name, there), path


def test_the_umask_does_not_count(to: Destination, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        os.close(to.folder("/n/m")[0])
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "root/n").st_mode) == 0o755


def test_what_is_in_the_way_is_removed(to: Destination, tmp_path: Path) -> None:
    root = tmp_path / "root"
    os.close(to.create(to.root_fd, b"d", 0o600))
    assert (root / "d").is_file()
    os.close(to.create(to.root_fd, b"ld", 0o600))
    assert not (root / "ld").is_symlink()
    os.close(to.directory(to.root_fd, b"f"))
    assert (root / "f").is_dir()
    os.close(to.directory(to.root_fd, b"up"))
    assert not (root / "up").is_symlink()
    to.remove(to.root_fd, b"nothing")


def test_an_existing_directory_is_kept(to: Destination, tmp_path: Path) -> None:
    os.close(to.directory(to.root_fd, b"d"))
    assert (tmp_path / "root/d/f").exists()


def test_a_clock_is_the_time_of_what_is_made(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        to = Destination(fd, Metadata(privileged=PRIVILEGED), 5_000_000_000)
        os.close(to.folder("/n")[0])
    finally:
        os.close(fd)
    assert os.stat(tmp_path / "n").st_mtime == 5


@pytest.mark.skipif(not PRIVILEGED, reason="gives files to others")
def test_owners(to: Destination, tmp_path: Path) -> None:
    root = tmp_path / "root"
    os.close(to.folder("/n/m", Owner(5, 6))[0])
    for path in ("n", "n/m"):
        st = os.stat(root / path)
        assert (st.st_uid, st.st_gid) == (5, 6)
    # A setgid directory gives its group to new files, and nobody asked for that.
    os.chown(root / "d", 0, 7)
    os.chmod(root / "d", 0o2755)
    os.close(to.folder("/d/n", ROOT)[0])
    assert os.stat(root / "d/n").st_gid == 0
    assert stat.S_IMODE(os.stat(root / "d/n").st_mode) == 0o755


def test_without_privilege_an_owner_is_recorded(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        metadata = Metadata(privileged=False)
        metadata.may_chown = False
        metadata.ours = (0, 0)
        Destination(fd, metadata).make_directory(fd, b"n", Owner(5, 6), 0o500)
    finally:
        os.close(fd)
    assert os.getxattr(tmp_path / "n", OVERRIDE_STAT) == b"5:6:0500:dir"
    assert stat.S_IMODE(os.stat(tmp_path / "n").st_mode) == 0o700


@pytest.mark.parametrize("name", [b"../x", b"%s/x", b"d/x", b"..", b".", b"", b"a\0b"])
def test_a_path_is_no_name(to: Destination, tmp_path: Path, name: bytes) -> None:
    """With `..` it would lead out of the image, where a build of root may write everything."""
    name = name.replace(b"%s", os.fsencode(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    for attempt in (
        lambda: to.create(to.root_fd, name, stat.S_IFREG | 0o644),
        lambda: to.directory(to.root_fd, name),
        lambda: to.make_directory(to.root_fd, name, ROOT),
        lambda: to.remove(to.root_fd, name),
    ):
        with pytest.raises(StoreError, match="is no name that a file can have"):
            attempt()
    assert sorted(tmp_path.rglob("*")) == before
