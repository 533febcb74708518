"""Lower files and directories that chattr(1) made immutable or append-only stay so."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.helpers.calls import FS_APPEND_FL, FS_IMMUTABLE_FL, get_flags, set_flags
from tests.helpers.layers import Layers
from tests.helpers.mounts import DEADLINE, kernel_overlay, mounted, require_fuse, require_root
from tests.helpers.unions import state
from unionfs.core.protection import past_marks, require_changeable

MARKED = {"immutable": FS_IMMUTABLE_FL, "grows": FS_APPEND_FL}


def append(path: Path) -> None:
    with open(path, "a") as file:
        file.write("more")


def open_for_writing(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY))


def touch(path: Path) -> None:
    subprocess.run(["touch", path], timeout=DEADLINE, check=True, stderr=subprocess.DEVNULL)


# What is tried, on what, and whether it may be done to an immutable and an append-only one.
TRIES: list[tuple[Callable[[Path], object], str, bool, bool]] = [
    (open_for_writing, "file", False, False),
    (append, "file", False, True),
    (lambda path: os.truncate(path, 1), "file", False, False),
    (lambda path: path.chmod(0o600), "file", False, False),
    (lambda path: os.chown(path, 1, 1), "file", False, False),
    (lambda path: os.utime(path, (1, 1)), "file", False, False),
    (lambda path: os.setxattr(path, "user.a", b""), "file", False, False),
    (lambda path: os.link(path, f"{path}2"), "file", False, False),
    (lambda path: path.rename(f"{path}2"), "file", False, False),
    (lambda path: os.rename(path.parent.parent / "other", path), "file", False, False),
    (os.unlink, "file", False, False),
    (lambda path: os.removexattr(path, "user.none"), "file", False, False),
    (lambda path: os.removexattr(path, "user.none"), "dir", False, False),
    (lambda path: path.chmod(0o700), "dir", False, False),
    (lambda path: os.setxattr(path, "user.a", b""), "dir", False, False),
    (lambda path: path.rename(f"{path}2"), "dir", False, False),
    (append, "dir/file", True, True),
    (lambda path: path.chmod(0o600), "dir/file", True, True),
    (os.unlink, "dir/file", False, False),
    (lambda path: path.rename(f"{path}2"), "dir/file", False, False),
    (lambda path: append(path.parent / "new"), "dir/file", False, True),
    (lambda path: (path.parent / "new2").mkdir(), "dir/file", False, True),
]


@contextmanager
def released(*tops: Path) -> Iterator[None]:
    """Take the marks off at the end, so that everything can be removed."""
    try:
        yield
    finally:
        subprocess.run(["chattr", "-R", "-f", "-i", "-a", *tops], timeout=DEADLINE, check=False)


def fill(top: Path) -> None:
    """Make directories, one for each try, in which a file and a directory are marked."""
    for number in range(len(TRIES)):
        for name, mark in MARKED.items():
            place = top / f"{name}{number}"
            (place / "dir").mkdir(parents=True)
            (place / "file").write_text("data")
            (place / "dir/file").write_text("data")
            for marked in ("file", "dir"):
                set_flags(place / marked, get_flags(place / marked) | mark)
    (top / "other").write_text("other")


@pytest.fixture(params=["plain", "kernel", "uring off", "passthrough off", "pyfuse3"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    require_root()
    if request.param == "plain":
        (tmp_path / "plain").mkdir()
        with released(tmp_path):
            fill(tmp_path / "plain")
            yield tmp_path / "plain"
        return
    require_fuse()
    layers = Layers(tmp_path)
    with released(tmp_path):
        fill(layers.lowers[0])
        words = (layers.lowers, layers.upper, layers.work)
        union: AbstractContextManager[Path]
        if request.param == "kernel":
            union = kernel_overlay(*words, ["redirect_dir=on", "index=on"])
        elif request.param == "pyfuse3":
            pytest.importorskip("pyfuse3")
            union = mounted(*words, ["transport=pyfuse3"])
        else:
            option = "io_uring=off" if request.param == "uring off" else "passthrough=off"
            union = mounted(*words, [option])
        with union as root:
            yield root


def test_marks_of_a_lower_are_enforced(subject: Path) -> None:
    """What a plain directory and kernel overlayfs refuse; what is allowed keeps the marks."""
    wrong: list[tuple[object, ...]] = []
    for number, (action, name, *allowed) in enumerate(TRIES):
        for mark, may in zip(MARKED, allowed, strict=True):
            place = subject / f"{mark}{number}"
            try:
                action(place / name)
                code = 0
            except OSError as error:
                code = error.errno or 0
            if code != (0 if may else errno.EPERM):
                wrong.append((number, mark, code))
            for marked in ("file", "dir"):
                if not (place / marked).exists():
                    wrong.append((number, mark, f"{marked} is gone"))
    assert not wrong


def test_a_copy_has_the_marks_and_they_can_be_taken_off(tmp_path: Path) -> None:
    require_root()
    require_fuse()
    layers = Layers(tmp_path)
    with released(tmp_path):
        fill(layers.lowers[0])
        with mounted(layers.lowers, layers.upper, layers.work) as root:
            append(root / "immutable0/dir/file")
            append(root / "grows0/file")
            assert get_flags(layers.upper / "immutable0/dir") & FS_IMMUTABLE_FL
            assert get_flags(layers.upper / "grows0/file") & FS_APPEND_FL
            with pytest.raises(PermissionError):
                (root / "immutable0/dir/new").touch()
            with pytest.raises(PermissionError):
                open_for_writing(root / "grows0/file")
            touch(root / "grows0/file")
            os.chown(root / "grows1/file", -1, -1)
            for name in ("immutable0/dir", "immutable0/file", "grows0/file"):
                set_flags(root / name, get_flags(root / name) & ~sum(MARKED.values()))
            (root / "immutable0/dir/new").touch()
            (root / "immutable0/file").write_text("new")
            (root / "grows0/file").write_text("new")
            # A copy_up changes nothing of the directory, neither its marks nor its times.
            before = (root / "grows1/dir").stat()
            (root / "grows1/dir/file").chmod(0o600)
            after = (root / "grows1/dir").stat()
            assert (after.st_mtime_ns, after.st_ctime_ns) == (
                before.st_mtime_ns,
                before.st_ctime_ns,
            )
            assert get_flags(root / "grows1/dir") & FS_APPEND_FL


def test_marks_are_put_back_after_a_failure(tmp_path: Path) -> None:
    require_root()
    fd = os.open(tmp_path, os.O_RDONLY)
    calls = []

    def fail() -> None:
        calls.append(get_flags(tmp_path) & FS_IMMUTABLE_FL)
        raise PermissionError(errno.EPERM, "refused")

    try:
        with pytest.raises(PermissionError):
            past_marks(fail, fd)
        assert calls == [0]
        with released(tmp_path):
            set_flags(tmp_path, get_flags(tmp_path) | FS_IMMUTABLE_FL)
            with pytest.raises(PermissionError):
                past_marks(fail, fd)
            assert calls == [0, FS_IMMUTABLE_FL, 0]
            assert get_flags(tmp_path) & FS_IMMUTABLE_FL
    finally:
        os.close(fd)


def test_only_what_is_in_a_lower_is_looked_at(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"lower": ""})
    with layers.union() as tree:
        tree.create(b"upper", 0o644)
        table = state(tree).table
        for name in (b"upper", b"lower"):
            require_changeable(table.get(tree.get(name).nodeid))


def test_a_directory_of_both_layers_is_renamed_as_little(tmp_path: Path) -> None:
    """EPERM, and not EXDEV, at which mv(1) would begin to copy."""
    require_root()
    layers = Layers(tmp_path)
    (layers.lowers[0] / "dir").mkdir()
    (layers.lowers[0] / "dir/file").touch()
    with released(tmp_path):
        set_flags(layers.lowers[0] / "dir", get_flags(layers.lowers[0] / "dir") | FS_APPEND_FL)
        with layers.union() as tree:
            tree.chmod(b"dir/file", 0o600)
            assert get_flags(layers.upper / "dir") & FS_APPEND_FL
            with pytest.raises(PermissionError):
                tree.rename(b"dir", b"moved", 0)
