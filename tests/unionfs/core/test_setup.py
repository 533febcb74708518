"""Opening a union: every sentence a person may read, and that nothing is left when it fails."""

from __future__ import annotations

import errno
import gc
import os
import re
import resource
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.counting import count_calls
from tests.helpers.faults import without_exchange
from tests.helpers.layers import Layers
from tests.helpers.mounts import kernel_overlay, require_root
from tests.helpers.unions import open_fds, state
from unionfs import MAX_LOWERS
from unionfs.core import setup
from unionfs.core.config import WhiteoutForm
from unionfs.core.opening import open_union
from unionfs.core.union import UnionFs
from unionfs.errors import ConfigError
from unionfs.syscalls.statfs import FUSE


def refusal(layers: Layers, **settings: Any) -> str:
    """Return the sentence with which the union is refused."""
    try:
        open_union(layers.config(**settings)).close()
    except ConfigError as error:
        return str(error)
    finally:
        gc.collect()  # a program would end now
    raise AssertionError("the union was opened")


def refused(layers: Layers, **settings: Any) -> str:
    """As `refusal`; nothing may be left open, and nothing made."""
    before = sorted(layers.base.rglob("*"))
    fds = open_fds()
    sentence = refusal(layers, **settings)
    assert "\n" not in sentence
    assert open_fds() == fds
    made = set(layers.base.rglob("*")) - set(before)
    assert not made, f"a refused union made {made}"
    return sentence.replace(str(layers.base), "BASE")


def test_missing_and_wrong_directories(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    gone, file = os.fsencode(tmp_path / "gone"), os.fsencode(layers.lowers[0] / "file")
    for setting, what, given in (
        ("lowers", "lowerdir", lambda path: (path,)),
        ("data", "data-only lowerdir", lambda path: (path,)),
        ("upper", "upperdir", lambda path: path),
        ("work", "workdir", lambda path: path),
    ):
        sentence = refused(layers, **{setting: given(gone)})
        assert sentence == f"{what} BASE/gone does not exist: create it, or correct the path"
        assert refused(layers, **{setting: given(file)}) == (
            f"{what} BASE/lower0/file is not a directory"
        )


def test_a_name_too_long_cannot_be_opened(tmp_path: Path) -> None:
    sentence = refused(Layers(tmp_path), lowers=(b"/" + b"n" * 300,))
    assert sentence.endswith("cannot be opened: File name too long")


def test_no_lower(tmp_path: Path) -> None:
    assert refused(Layers(tmp_path), lowers=()) == (
        "a union needs at least one lower layer: give lowerdir=DIR"
    )


def test_too_many_lowers(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    lowers = (os.fsencode(layers.lowers[0]),) * (MAX_LOWERS + 1)
    assert refused(layers, lowers=lowers) == (
        f"{MAX_LOWERS + 1} lower layers are too many: a union takes {MAX_LOWERS} at most"
    )


def test_upper_and_work_come_together(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    assert refused(layers, work=None) == (
        "upperdir is given without workdir: give both, or neither"
    )
    assert refused(layers, upper=None) == (
        "workdir is given without upperdir: give both, or neither"
    )


def test_upper_and_work_are_apart(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    (layers.upper / "in").mkdir()
    (tmp_path / "link").symlink_to(layers.upper / "in")
    for work in (layers.upper, layers.upper / "in", tmp_path / "link", tmp_path):
        sentence = refused(layers, work=os.fsencode(work))
        assert sentence.endswith("lie one inside the other: make them two directories side by side")


@pytest.mark.parametrize("setting", ["upper", "work"])
def test_lowers_are_apart_from_what_is_written(tmp_path: Path, setting: str) -> None:
    layers = Layers(tmp_path)
    inside = layers.lowers[0] / "in"
    inside.mkdir()
    sentence = refused(layers, **{setting: os.fsencode(inside)})
    assert sentence == (
        f"{setting}dir BASE/lower0/in and lowerdir BASE/lower0 lie one inside the other: "
        "what is written to the one would change the other"
    )


def test_upper_and_work_on_different_filesystems(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other filesystem at /dev/shm")
    assert refused(layers, work=os.fsencode(other)).endswith(
        "are on different filesystems: put the workdir beside the upperdir"
    )


@pytest.mark.parametrize("setting", ["upper", "work"])
def test_a_second_union_over_the_same_upper(tmp_path: Path, setting: str) -> None:
    layers = Layers(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    with layers.union():
        (layers.base / "new").mkdir()
        sentence = refused(layers, **{setting: os.fsencode(other)})
        taken = {"upper": "workdir BASE/work", "work": "upperdir BASE/upper"}[setting]
        assert sentence == (
            f"{taken} is in use by another mount, served by process {os.getpid()}: "
            "unmount that first, or choose another directory"
        )
    with layers.union():
        pass


@pytest.mark.parametrize("folder", ["plain", "with space", "tab\tand\\134", "com,ma=x"])
def test_an_upper_that_kernel_overlayfs_works_in(tmp_path: Path, folder: str) -> None:
    layers = Layers(tmp_path / folder)
    with kernel_overlay(layers.lowers, layers.upper, layers.work) as root:
        assert refused(layers) == (
            f"upperdir BASE/upper is in use by the overlay mounted at {root}: unmount that first, "
            "or choose another directory"
        )


def test_an_upper_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_args, **_keywords: False)
    assert refused(Layers(tmp_path)) == (
        "upperdir BASE/upper is not writable: change its mode or owner, or mount without an "
        "upperdir to read only"
    )


def test_what_a_layer_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However deep its path is: engines keep layers far down in their directories."""
    deep = tmp_path / "a/b/c/d/e"
    deep.mkdir(parents=True)
    layers = Layers(deep, *({} for _ in range(40)))
    lowers = tuple(map(os.fsencode, layers.lowers))

    def opened(count: int) -> Counter[str]:
        def open_it() -> None:
            open_union(layers.config(lowers=lowers[:count])).close()

        return count_calls(monkeypatch, open_it)

    opened(40)
    assert opened(40) - opened(10) == Counter(
        open=30 * 2,  # by its path, and in a copy of its mount
        readlink=30,
        fstat=30 * 3,  # that the copy is of the same directory, and its device
        stat=30,  # for a mark of AUFS
        listxattr=30,
    )


def test_too_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (100, 100))
    assert refused(Layers(tmp_path)) == (
        "the limit of 100 open files is too low for 1 layers: raise it with `ulimit -n`"
    )


@pytest.mark.parametrize(
    ("limit", "open_dirs", "kept"),
    [
        (1 << 20, None, setup.MOST_DIRS),
        (resource.RLIM_INFINITY, None, setup.MOST_DIRS),
        (1 << 20, 1 << 17, 1 << 17),  # as asked for
        (1024, None, (1024 - 64 - 1) // 2),
        (1024, 100, 100),
    ],
)
def test_the_number_of_directories_kept_open_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, open_dirs: int | None, kept: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    with Layers(tmp_path, {}).union(open_dirs=open_dirs) as tree:
        assert state(tree).fds.capacity == kept


def test_a_root_that_cannot_be_read_leaves_no_volatile_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(5, "Input/output error")

    layers = Layers(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(setup, "resolve_locked", fail)
        assert refusal(layers, volatile=True) == "a lower layer cannot be read: Input/output error"
    with layers.union(volatile=True):
        pass


def test_attributes_that_cannot_be_stored(tmp_path: Path) -> None:
    """ramfs has no attributes."""
    place = tmp_path / "ramfs"
    place.mkdir()
    mounting = ["mount", "-t", "ramfs", "ramfs", str(place)]
    if subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("ramfs cannot be mounted here")
    try:
        layers = Layers(place)
        assert re.fullmatch(
            rf"the filesystem of upperdir {place}/upper cannot store the attribute "
            r"trusted\.overlay\.opaque \(.*\): put upperdir and workdir on ext4, xfs, btrfs or "
            r"tmpfs",
            refusal(layers),
        )
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_char_whiteouts_where_mknod_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_keywords: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    layers = Layers(tmp_path, {"file": "x"})
    with monkeypatch.context() as patched:
        patched.setattr(os, "mknod", fail)
        assert refusal(layers, whiteout=WhiteoutForm.CHAR) == (
            "whiteout=char needs mknod of a device 0:0, which fails here (Operation not "
            "permitted): use whiteout=auto"
        )
        with layers.union() as tree:
            tree.unlink(b"file")
    assert "trusted.overlay.whiteout" in os.listxattr(layers.upper / "file")
    assert set(layers.look()) == {b""}


# -- read-only --


def test_without_an_upper_nothing_can_be_written(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    with layers.union(**layers.read_only()) as tree:
        for change in (
            lambda: tree.create(b"new", 0o600),
            lambda: tree.unlink(b"file"),
            lambda: tree.chmod(b"file", 0o600),
            lambda: tree.write(b"file", 0, b"y"),
            lambda: tree.setxattr(b"file", "user.x", b"1", 0),
            lambda: tree.rename(b"file", b"new", 0),
            lambda: tree.link(b"file", b"new"),
        ):
            with pytest.raises(OSError, match="Read-only"):
                change()
        assert tree.read(b"file") == b"x"


def test_read_only_with_an_upper_shows_the_upper(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x", "gone": "y"})
    with layers.union() as tree:
        tree.write(b"file", 0, b"X")
        tree.unlink(b"gone")
    with layers.union(read_only=True) as tree:
        assert tree.read(b"file") == b"X"
        assert [entry.name for entry in tree.listdir(b"")] == [b"file"]
        with pytest.raises(OSError, match="Read-only"):
            tree.create(b"new", 0o600)


def test_closing_twice_is_well(tmp_path: Path) -> None:
    fs = open_union(Layers(tmp_path).config())
    fs.close()
    fs.close()


def test_an_upper_that_cannot_exchange_names_has_whiteouts_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path, {"a": "data"})
    monkeypatch.setattr(setup, "is_remote", lambda fs_type: True)
    with layers.union() as tree:
        tree.unlink(b"a")
        tree.create(b"a", 0o600)
    assert os.listdir(layers.work / "work") == []
    with without_exchange():
        with layers.union() as tree:
            tree.unlink(b"a")
        assert os.listdir(layers.upper) == [".wh.a"]
        assert os.listdir(layers.work / "work") == []
        cannot = (
            f"the filesystem of upperdir {layers.upper} cannot exchange two names (RENAME_EXCHANGE)"
        )
        assert refusal(layers, whiteout=WhiteoutForm.CHAR) == (
            f"{cannot}, which whiteout=char needs: use whiteout=auto"
        )
        monkeypatch.setattr(setup, "filesystem_type", lambda fd: FUSE)
        assert refusal(layers) == (
            f"{cannot}, and it is a FUSE filesystem: put upperdir and workdir on ext4, xfs, btrfs, "
            "tmpfs or NFS"
        )


def test_an_upper_without_trusted_attributes_may_have_those_of_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS since version 4.2."""
    require_root()
    layers, real = Layers(tmp_path, {"a": "data"}), os.setxattr

    def limited(fd: int, name: str | bytes, value: bytes) -> None:
        if not os.fsencode(name).startswith(b"user."):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        real(fd, name, value)

    monkeypatch.setattr(os, "setxattr", limited)
    assert "(Operation not supported): mount with userxattr, or put upperdir" in refusal(layers)
    with layers.union(userxattr=True) as tree:
        assert tree.read(b"a") == b"data"


def _union(tree: CoreDriver) -> UnionFs:
    assert isinstance(tree.fs, UnionFs)
    return tree.fs


def test_a_lower_that_is_the_upper_of_another_mount_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layers = Layers(tmp_path, {"file": "text"})
    above = Layers(tmp_path / "above", {})
    above.lowers = [layers.upper, layers.lowers[0]]
    with layers.union():
        with above.union(timeout=0) as tree:
            _union(tree).warn_of_live_uppers()
        assert not caplog.text, "with a timeout, layers may change"
        with above.union() as tree:
            _union(tree).warn_of_live_uppers()
        assert f"lowerdir {layers.upper} is in use as upperdir of another mount" in caplog.text
    caplog.clear()
    with above.union() as tree:
        _union(tree).warn_of_live_uppers()
    assert caplog.text == ""
