"""An archive's file appears whole or not at all."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.output.output_file import opened, source


def test_a_file_appears_at_the_end_for_its_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    with opened(str(target), "failed to save image") as stream:
        stream.write(b"x")
        assert not target.exists()
    assert target.read_bytes() == b"x"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.tar"]


def test_a_file_is_on_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.tar"
    synced = list[tuple[int, bool]]()
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append((os.fstat(fd).st_size, target.exists()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    with opened(str(target), "failed") as stream:
        stream.write(b"x" * 5)
    # First the content under another name, then the directory that has the name.
    assert [synced[0], synced[1][1]] == [(5, False), True]
    assert len(synced) == 2


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    target.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), opened(str(target), "failed") as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.tar"]


def test_a_full_disk_is_said_with_the_name_of_the_file() -> None:
    with (
        pytest.raises(StoreError, match=r"^/dev/full cannot be written: No space left on device$"),
        opened("/dev/full", "failed") as stream,
    ):
        stream.write(b"x")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a link of another user")
@pytest.mark.parametrize("way", ["waiting", "directory/victim", "mine"])
def test_a_link_of_another_user_is_not_followed(tmp_path: Path, way: str) -> None:
    """In a directory like /tmp.  No setting of the kernel protects from what reads links itself."""
    (tmp_path / "private").mkdir()
    victim = tmp_path / "private" / "victim"
    victim.write_bytes(b"before")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "waiting").symlink_to(victim)
    (shared / "directory").symlink_to(victim.parent)
    for name in ("waiting", "directory"):
        os.chown(shared / name, 65534, 65534, follow_symlinks=False)
    (shared / "mine").symlink_to("waiting")
    with (
        pytest.raises(WrongWords, match="leads through a link of another user"),
        opened(f"{shared}/{way}", "failed") as stream,
    ):
        stream.write(b"x")
    assert victim.read_bytes() == b"before"


def test_a_link_of_ours_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "last").symlink_to("link/a.tar")
    with opened(f"{tmp_path}/last", "failed") as stream:
        stream.write(b"x")
    assert (tmp_path / "real" / "a.tar").read_bytes() == b"x"


def test_a_device_is_written_to(tmp_path: Path) -> None:
    with opened("/dev/null", "failed") as stream:
        stream.write(b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    with (
        pytest.raises(WrongWords) as raised,
        opened(f"{tmp_path}/nope/x", "failed to save image"),
    ):
        pass
    assert raised.value.message == (
        f'failed to save image: invalid output path: directory "{tmp_path}/nope" does not exist'
    )
    with pytest.raises(WrongWords, match="is a directory"), opened(str(tmp_path), "failed"):
        pass


def test_a_terminal_gets_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", _Terminal())
    with (
        pytest.raises(WrongWords, match=r"^cowardly refusing to save to a terminal"),
        opened("", ""),
    ):
        pass


def test_a_terminal_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", _Terminal())
    with pytest.raises(WrongWords, match=r"^stdin is empty$"), source(None, "stdin is empty"):
        pass


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WrongWords) as raised, source(f"{tmp_path}/nope", ""):
        pass
    assert raised.value.message == f"open {tmp_path}/nope: no such file or directory"
    assert raised.value.status == 1


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
