"""What is built beside its place is whole or not there, and no kill leaves any of it for good."""

from __future__ import annotations

import errno
import os
import signal
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore.db import beside
from layerstore.db.beside import NewDirectory, new_file, sweep, temporary_directory
from layerstore.db.durability import open_directory

NAME = "a.tar"


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a file is made, as on a filesystem with O_TMPFILE or on one without."""
    if request.param == "named":
        monkeypatch.setattr(beside, "open_nameless", lambda folder, mode: None)
    return str(request.param)


def write(folder: Path, text: bytes, name: str = NAME) -> None:
    with open_directory(folder) as at, new_file(at.fd, name, 0o640) as fd:
        os.write(fd, text)


def killed(work: Callable[[], object]) -> None:
    """Let a child do `work`, which ends in its SIGKILL."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def write_half(folder: Path) -> None:
    with open_directory(folder) as at, new_file(at.fd, NAME, 0o600) as fd:
        os.write(fd, b"half")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("way")
def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    for text in (b"first", b"second"):
        write(tmp_path, text)
        assert os.listdir(tmp_path) == [NAME]
        assert (tmp_path / NAME).read_bytes() == text
        assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o640


@pytest.mark.usefixtures("way")
def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        open_directory(tmp_path) as at,
        new_file(at.fd, NAME, 0o600) as fd,
    ):
        os.write(fd, b"half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("way")
def test_a_failure_to_take_the_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(IsADirectoryError):
        write(tmp_path, b"x")
    assert os.listdir(tmp_path) == [NAME]


def test_a_killed_process_leaves_nothing(tmp_path: Path, way: str) -> None:
    write(tmp_path, b"before")
    killed(lambda: write_half(tmp_path))
    assert (len(os.listdir(tmp_path)), (tmp_path / NAME).read_bytes()) == (
        1 if way == "nameless" else 2,
        b"before",
    )
    write(tmp_path, b"after")
    assert os.listdir(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == b"after"


def test_a_process_that_is_killed_as_it_replaces_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first name of a file and its rename it has a name that the next one knows."""

    def half() -> None:
        monkeypatch.setattr(os, "rename", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        write(tmp_path, b"half")

    write(tmp_path, b"before")
    killed(half)
    assert len(os.listdir(tmp_path)) == 2
    write(tmp_path, b"after")
    assert os.listdir(tmp_path) == [NAME]


@pytest.mark.usefixtures("way")
def test_two_write_at_once(tmp_path: Path) -> None:
    with open_directory(tmp_path) as at, new_file(at.fd, NAME, 0o600) as fd:
        os.write(fd, b"later")
        write(tmp_path, b"sooner")
        assert (tmp_path / NAME).read_bytes() == b"sooner"
    assert os.listdir(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == b"later"


@pytest.mark.usefixtures("way")
def test_the_longest_name(tmp_path: Path) -> None:
    name = "ä" * 127
    write(tmp_path, b"1", name)
    write(tmp_path, b"2", name)
    assert (tmp_path / name).read_bytes() == b"2"


def test_what_others_have_there_stays(tmp_path: Path) -> None:
    left = f".{NAME}.pyunion-{'0' * 16}"
    others = [f".{NAME}.pyunion-0", f".{NAME}.1234", f".b.tar.pyunion-{'0' * 16}", f"{left}0"]
    for name in (left, *others):
        (tmp_path / name).touch()
    write(tmp_path, b"x")
    assert sorted(os.listdir(tmp_path)) == sorted([NAME, *others])


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    (tmp_path / f".{NAME}.pyunion-{'0' * 16}").symlink_to("mine")
    write(tmp_path, b"x")
    assert (tmp_path / "mine/file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a file of another user")
def test_a_file_of_another_user_stays(tmp_path: Path) -> None:
    left = tmp_path / f".{NAME}.pyunion-{'0' * 16}"
    left.touch()
    os.chown(left, 65534, 65534)
    write(tmp_path, b"x")
    assert left.exists()


def test_a_directory_is_renamed_or_removed(tmp_path: Path) -> None:
    new = NewDirectory(tmp_path / "layout")
    (new.path / "file").touch()
    with open_directory(tmp_path) as at:
        sweep(at.fd, "layout")
    assert (new.path / "file").exists(), "its process has it locked"
    os.rename(new.path, tmp_path / "layout")
    new.close()
    assert os.listdir(tmp_path / "layout") == ["file"]
    again = NewDirectory(tmp_path / "layout")
    (again.path / "deep/er").mkdir(parents=True)
    again.close()
    again.close()
    assert os.listdir(tmp_path) == ["layout"]


def test_a_directory_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    def half() -> None:
        new = NewDirectory(tmp_path / "layout")
        (new.path / "deep/er").mkdir(parents=True)
        os.kill(os.getpid(), signal.SIGKILL)

    killed(half)
    assert len(os.listdir(tmp_path)) == 1
    NewDirectory(tmp_path / "layout").close()
    assert os.listdir(tmp_path) == []


def test_a_filesystem_without_files_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refused(path: str, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return opened(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refused)
    with open_directory(Path("/")) as at:
        assert beside.open_nameless(at.fd, 0o600) is None


def test_a_temporary_directory_of_a_killed_process_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def half() -> None:
        with temporary_directory() as made:
            (made / "file").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    killed(half)
    assert len(os.listdir(tmp_path)) == 1
    with temporary_directory() as made:
        assert os.listdir(tmp_path) == [made.name]
        assert os.listdir(made) == []
    assert os.listdir(tmp_path) == []
