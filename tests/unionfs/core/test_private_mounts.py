"""Layers on a mount where every read counts: what is read by us, and what the kernel reads."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.mounts import kernel_overlay, mounted, require_root, run, wait_until
from tests.helpers.unions import core, errno_of, state
from unionfs import Atime
from unionfs.core.layer import open_dir
from unionfs.core.private_mounts import LayerMounts, real_path

OLD_NS = 1_000_000_000_000_000_000
_REALTIME_COARSE = 5  # <linux/time.h>

SIZES = {"small": 100, "large": 200_000}  # the kernel reads a large one by itself


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs mounted strictatime."""
    require_root()
    place = tmp_path / "strict"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "strictatime", "none", place)
    yield place
    run("umount", "-l", place)


def coarse_now() -> int:
    """Return the time that the kernel would make an atime of, in ns."""
    return time.clock_gettime_ns(_REALTIME_COARSE)


def make(folder: Path) -> dict[Path, int]:
    """Make files that were read long ago; return their atimes."""
    for name, size in SIZES.items():
        (folder / name).write_bytes(b"x" * size)
        os.utime(folder / name, ns=(OLD_NS, OLD_NS))
    return {folder / name: OLD_NS for name in SIZES}


def read_all(root: Path) -> None:
    """Read the files beneath `root` in every way there is."""
    os.listdir(root)
    for name in SIZES:
        with open(root / name, "rb") as file:
            file.read()
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                assert mapped[:1] == b"x"


@pytest.mark.parametrize("option", ["passthrough=on", "passthrough=off", "strictatime"])
def test_a_lower_layer_keeps_its_atimes(strict: Path, option: str) -> None:
    for name in ("lower", "data", "upper", "work"):
        (strict / name).mkdir()
    lower = strict / "lower"
    before = make(lower)
    before[lower] = lower.stat().st_atime_ns
    with mounted([lower], strict / "upper", strict / "work", [option]) as root:
        read_all(root)
        read_all(root)
    with mounted([lower, strict / "data"], options=[option]) as root:
        read_all(root)
    assert {path: path.stat().st_atime_ns for path in before} == before


@pytest.mark.parametrize("size", SIZES)
def test_atimes_in_the_upper_follow_the_mount_options(strict: Path, size: str) -> None:
    for name in ("lower", "upper", "work"):
        (strict / name).mkdir()

    def changes(option: str) -> list[bool]:
        """Tell whether the first and the second read of a file change its atime."""
        make(strict / "upper")
        changed = []
        with mounted([strict / "lower"], strict / "upper", strict / "work", [option]) as root:
            for _ in range(2):
                before = (root / size).stat().st_atime_ns
                wait_until(lambda before=before: coarse_now() > before, "the clock", 5)  # type: ignore[misc]
                fd = os.open(root / size, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.read(fd, 10)
                os.close(fd)
                changed.append((root / size).stat().st_atime_ns != before)
        return changed

    assert changes("noatime") == [False, False]
    assert changes("relatime") == [True, False]
    assert changes("strictatime") == [True, True]


def reads_change_atime(path: Path) -> list[bool]:
    """Tell for each of three times that a file is opened and read whether its atime changes."""
    changed = []
    for _ in range(3):
        before = path.stat().st_atime_ns
        wait_until(lambda before=before: coarse_now() > before, "the clock", 5)  # type: ignore[misc]
        path.read_bytes()
        changed.append(path.stat().st_atime_ns != before)
    return changed


@pytest.mark.parametrize("subject", ["kernel", "passthrough=on", "passthrough=off", "pyfuse3"])
@pytest.mark.parametrize("size", SIZES)
def test_every_read_counts_with_strictatime(strict: Path, subject: str, size: str) -> None:
    """Also of what the kernel has in memory: xfstests generic/003."""
    for name in ("lower", "upper", "work"):
        (strict / name).mkdir()
    words = ([strict / "lower"], strict / "upper", strict / "work")
    for option, counts in (("strictatime", True), ("noatime", False)):
        make(strict / "upper")
        if subject == "kernel":
            union = kernel_overlay(*words, [option])
        elif subject == "pyfuse3":
            pytest.importorskip("pyfuse3")
            union = mounted(*words, [option, "transport=pyfuse3"])
        else:
            union = mounted(*words, [option, subject])
        with union as root:
            assert reads_change_atime(root / size) == [counts] * 3


def listings_change_atime(root: Path) -> list[bool]:
    """Tell for two listings of a directory whether they change its atime."""
    changed = []
    for _ in range(2):
        before = root.stat().st_atime_ns
        wait_until(lambda before=before: coarse_now() > before, "the clock", 5)  # type: ignore[misc]
        os.listdir(root)
        changed.append(root.stat().st_atime_ns != before)
    return changed


@pytest.mark.parametrize("transport", ["kernel", "dev_fuse", "pyfuse3"])
def test_every_listing_counts_with_strictatime(strict: Path, transport: str) -> None:
    """Of a directory that the upper has; kernel overlayfs is the oracle."""
    if transport == "pyfuse3":
        pytest.importorskip("pyfuse3")
    for name in ("lower/only", "lower/both", "upper/both/in", "upper/only-upper", "work"):
        (strict / name).mkdir(parents=True)
    words = (strict / "upper", strict / "work")
    before = (strict / "lower/only").stat().st_atime_ns
    for option, counts in (("strictatime", True), ("noatime", False)):
        if transport == "kernel":
            union = kernel_overlay([strict / "lower"], *words, [option])
        else:
            options = [option, f"transport={transport}"]
            union = mounted([strict / "lower"], *words, options)
        with union as root:
            for name in ("both", "only-upper", "both/in"):
                assert listings_change_atime(root / name) == [counts] * 2, (option, name)
            assert listings_change_atime(root / "only") == [False] * 2
    assert (strict / "lower/only").stat().st_atime_ns == before


def test_the_mount_of_a_layer_is_busy_while_the_union_is_mounted(strict: Path) -> None:
    for name in ("lower", "upper", "work"):
        (strict / name).mkdir()
    inside = strict / "inside"
    inside.mkdir()
    run("mount", "-t", "tmpfs", "none", inside)
    (inside / "lower").mkdir()
    with mounted([inside / "lower"], strict / "upper", strict / "work"):
        for place in (inside, strict):
            done = run("umount", place, check=False)
            assert done.returncode != 0
            assert b"busy" in done.stderr
    run("umount", inside)


@pytest.mark.parametrize("atime", ["noatime", "strictatime"])
def test_the_mount_of_a_frozen_layer_stays_busy(strict: Path, atime: str) -> None:
    layers = Layers(strict / "layers", {"file": ""})
    with layers.union(strict=False, atime=Atime(atime)) as tree:
        tree.create(b"new", 0o600)
        core(tree).freeze(os.fsencode(strict / "layers/frozen"))
        assert b"busy" in run("umount", strict, check=False).stderr


def test_a_layer_beside_a_mount_with_a_longer_name_has_a_copy(strict: Path) -> None:
    for name in ("lower", "lower-2", "lower/inside"):
        (strict / name).mkdir()
    (strict / "lower-2/on").mkdir()
    run("mount", "-t", "tmpfs", "none", strict / "lower-2/on")
    try:
        mounts = LayerMounts(None)
        for name, copied in (("lower", True), ("lower-2", False), ("lower/inside", True)):
            path = os.fsencode(strict / name)
            fd = open_dir(path)
            assert (mounts.lower(path, real_path(path, fd), fd) is not fd) is copied
        mounts.close()
    finally:
        run("umount", strict / "lower-2/on")


def test_mounts_inside_a_lower_layer_show(strict: Path) -> None:
    lower = strict / "lower"
    (lower / "inside").mkdir(parents=True)
    run("mount", "-t", "tmpfs", "none", lower / "inside")
    (lower / "inside" / "file").write_text("text")
    with mounted([lower]) as root:
        assert (root / "inside" / "file").read_text() == "text"
    run("umount", lower / "inside")


@pytest.fixture
def layers(strict: Path) -> Layers:
    return Layers(strict / "layers", {"dir": {"large": "x" * 200_000}})


def test_a_frozen_layer_keeps_its_atimes_and_the_fresh_upper_works(layers: Layers) -> None:
    with layers.union(strict=False) as tree:
        tree.create(b"file", 0o600)
        tree.write(b"file", 0, b"text")
        tree.mkdir(b"own", 0o700)
        tree.create(b"own/file", 0o600)
        held = tree.open(b"file", os.O_RDWR, 0)
        frozen = layers.base / "frozen"
        core(tree).freeze(os.fsencode(frozen))
        tree.close(held)
        os.utime(frozen / "own" / "file", ns=(OLD_NS, OLD_NS))
        assert tree.read(b"own/file") == b""
        assert tree.read(b"file") == b"text"
        assert (frozen / "own" / "file").stat().st_atime_ns == OLD_NS
        # Renames from the workdir into the fresh upper stay within one mount.
        tree.write(b"own/file", 0, b"more")
        tree.rename(b"own/file", b"moved", 0)
        tree.rename(b"own", b"other", 0)
        tree.unlink(b"file")
        assert (layers.upper / "moved").read_text() == "more"
        assert not (frozen / "moved").exists()
        frozen_root = state(tree).lowers[0].root
        assert errno_of(lambda: os.mkdir(b"new", dir_fd=frozen_root.fd())) == errno.EROFS


def test_no_atime_is_asked_for_where_a_mount_flag_cannot_say_it(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(fd: int) -> int:
        raise PermissionError

    monkeypatch.setattr("unionfs.core.private_mounts.clone_mount", refused)
    for atime in (Atime.NOATIME, None):
        with layers.union(atime=atime) as tree:
            tree.create(b"file", 0o600)
            tree.write(b"file", 0, b"text")
            os.utime(layers.upper / "file", ns=(OLD_NS, OLD_NS))
            assert tree.read(b"file") == b"text"
            same = (layers.upper / "file").stat().st_atime_ns == OLD_NS
            assert same is (atime is Atime.NOATIME)
            assert tree.read(b"dir/large")[:1] == b"x"
            tree.unlink(b"file")
