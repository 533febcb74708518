"""A full disk: what does not fit fails with ENOSPC and leaves no trace."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.tree import build, file, hard_link, sparse
from tests.helpers import trees
from tests.helpers.drivers import OsDriver
from tests.helpers.mounts import mounted, require, require_root, run
from tests.helpers.small_disks import small_disk

SMALL = 8 << 20
LARGE = b"0123456789abcdef" * (1 << 20)  # 16 MiB


class Place:
    """A union whose upper is on a small filesystem."""

    def __init__(self, base: Path, small: Path) -> None:
        self.lower = base / "lower"
        self.upper = small / "upper"
        self.work = small / "work"
        self.small = small
        build(
            [
                file("large", LARGE, mode=0o640),
                file("h1", LARGE),
                hard_link("h2", "h1"),
                sparse("sparse", 1 << 30, (4096, b"data"), (1 << 29, b"more")),
                file("small", b"small"),
                file("d/x", b"x"),
                file("gone", b"gone"),
            ],
            os.fsencode(self.lower),
        )
        self.upper.mkdir()
        self.work.mkdir()

    @contextlib.contextmanager
    def mount(self, *options: str) -> Iterator[Path]:
        before = trees.raw(self.lower)
        with mounted([self.lower], self.upper, self.work, options) as root:
            yield root
        assert trees.raw(self.lower) == before
        assert trees.leftovers(self.work) == []


@pytest.fixture(params=["ext4", "tmpfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    require_root()
    with small_disk(tmp_path, request.param, SMALL) as small:
        probe = small / "probe"
        probe.touch()
        try:
            os.setxattr(probe, "user.probe", b"")
        except OSError:
            require(False, f"{request.param} of this kernel has no user.* attributes")
        probe.unlink()
        yield Place(tmp_path, small)


@contextlib.contextmanager
def no_space() -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == errno.ENOSPC


def _fill(folder: Path) -> Path:
    """Take all the space there is; return the file that holds it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while out.write(b"\0" * size):
                    pass
    return filler


def _take_inodes(folder: Path) -> list[Path]:
    """Make files until there is no inode left; return them."""
    made: list[Path] = []
    with contextlib.suppress(OSError):
        while True:
            path = folder / f"inode{len(made)}"
            path.touch()
            made.append(path)
    return made


def test_a_file_too_large_to_copy_up_stays_as_it_was(place: Place) -> None:
    with place.mount() as root:
        before = trees.snapshot(OsDriver(root))
        with no_space():
            os.chmod(root / "large", 0o600)
        with no_space():
            (root / "large").open("r+b").close()
        with no_space():
            os.link(root / "large", root / "d" / "large")
        with no_space():
            os.rename(root / "large", root / "renamed")
        # The parent of a file may be in the upper now; that shows in nothing.
        trees.assert_same(before, trees.snapshot(OsDriver(root)))
        assert (root / "large").read_bytes() == LARGE
        assert os.listdir(place.work / "work") in ([], ["#1"])
        (root / "small").write_text("there is room for this")
        assert (root / "small").read_text() == "there is room for this"
    with place.mount() as root:
        assert (root / "large").read_bytes() == LARGE
        assert (root / "small").read_text() == "there is room for this"


def test_a_hard_linked_file_too_large_stays_as_it_was(place: Place) -> None:
    with place.mount() as root:
        with no_space():
            os.truncate(root / "h1", len(LARGE) - 1)
        assert (root / "h2").read_bytes() == LARGE
        assert os.stat(root / "h1").st_nlink == 2
        os.unlink(root / "h1")
        assert (root / "h2").read_bytes() == LARGE


def test_holes_take_no_room(place: Place) -> None:
    with place.mount() as root:
        os.chmod(root / "sparse", 0o600)
        assert os.stat(root / "sparse").st_size == 1 << 30
        with (root / "sparse").open("rb") as source:
            source.seek(1 << 29)
            assert source.read(4) == b"more"


def test_what_truncation_drops_need_not_fit(place: Place) -> None:
    with place.mount() as root:
        os.truncate(root / "large", 10)
        assert (root / "large").read_bytes() == LARGE[:10]
        (root / "h1").write_text("all new")
        assert (root / "h2").read_text() == "all new"


def test_metacopy_needs_no_room_for_data(place: Place) -> None:
    with place.mount("metacopy=on") as root:
        os.chmod(root / "large", 0o600)
        assert (root / "large").read_bytes() == LARGE
        with no_space():
            (root / "large").open("r+b").close()
        assert (root / "large").read_bytes() == LARGE
        assert os.stat(root / "large").st_mode & 0o777 == 0o600


def test_nothing_breaks_without_a_single_free_block(place: Place) -> None:
    with place.mount() as root:
        before = trees.snapshot(OsDriver(root))
        filler = _fill(place.small)
        for work in (
            lambda: os.chmod(root / "small", 0o600),
            lambda: os.rename(root / "d", root / "e"),
            lambda: (root / "new").write_bytes(b"x" * 5000),
        ):
            # A small thing may fit into what is left of a block or an inode.
            with contextlib.suppress(OSError):
                work()
        assert (root / "large").read_bytes() == LARGE
        filler.unlink()
        for name in ("new", "e"):
            if (root / name).exists() and name == "e":
                os.rename(root / "e", root / "d")
            elif (root / name).exists():
                (root / name).unlink()
        os.chmod(root / "small", 0o644)
        after = trees.snapshot(OsDriver(root))
        trees.assert_same(before, after, skip=["mtime_ns"])


def test_nothing_breaks_without_a_free_inode(place: Place) -> None:
    with place.mount() as root:
        taken = _take_inodes(place.small)
        with no_space():
            (root / "new").touch()
        with no_space():
            (root / "dir").mkdir()
        with no_space():
            os.chmod(root / "d" / "x", 0o600)
        assert sorted(os.listdir(root)) == sorted(os.listdir(place.lower))
        for path in taken:
            path.unlink()
        (root / "new").touch()
        os.chmod(root / "d" / "x", 0o600)
        os.unlink(root / "gone")
    with place.mount() as root:
        assert not (root / "gone").exists()
        assert (root / "new").exists()


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_what_a_disk_keeps_for_others_stays_free(tmp_path: Path, passthrough: str) -> None:
    """With the capability of the daemon, every user of the mount would take it, and quotas too."""
    require_root()
    with small_disk(tmp_path, "ext4", SMALL) as small:
        run("mount", "-o", "remount,resuid=1,resgid=1", small)
        before = os.statvfs(small)
        kept = before.f_bfree - before.f_bavail
        assert kept > 50
        place = Place(tmp_path, small)
        with place.mount(f"passthrough={passthrough}") as root:
            with pytest.raises(OSError, match="No space left"), open(root / "new", "wb", 0) as new:
                while True:
                    new.write(bytes(4096))
            with pytest.raises(OSError, match="No space left"):
                os.truncate(root / "large", len(LARGE) - 1)
            assert (root / "large").read_bytes() == LARGE
            assert os.statvfs(small).f_bfree >= kept
            (root / "gone").unlink()


def test_a_quota_is_a_full_disk(tmp_path: Path) -> None:
    require_root()
    if shutil.which("btrfs") is None:
        pytest.skip("btrfs is not here")
    with small_disk(tmp_path, "btrfs", 256 << 20) as top:
        small = top / "limited"
        run("btrfs", "quota", "enable", top)
        run("btrfs", "subvolume", "create", small)
        run("btrfs", "qgroup", "limit", str(SMALL), small)
        place = Place(tmp_path, small)
        with place.mount() as root:
            changes: tuple[Callable[[Path], object], ...] = (
                *(write_at_end, partial(os.truncate, length=len(LARGE) - 1)),
                partial(os.chmod, mode=0o600),
            )
            for work in changes:
                with pytest.raises(OSError, match="Disk quota exceeded") as failed:
                    work(root / "large")
                assert failed.value.errno == errno.EDQUOT
            assert (root / "large").read_bytes() == LARGE
            os.rename(root / "small", root / "moved")
            assert (root / "moved").read_bytes() == b"small"
            assert not (root / "small").exists()
            run("btrfs", "qgroup", "limit", "none", small)
            write_at_end(root / "large")
            assert (root / "large").read_bytes() == LARGE + b"more"


def write_at_end(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")
