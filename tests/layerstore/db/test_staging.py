"""Staging: what is being built stays, what nobody holds any more goes, however deep."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from layerstore.db.staging import StagingArea, remove_tree
from tests.helpers import children


@pytest.fixture
def area(tmp_path: Path) -> StagingArea:
    path = tmp_path / "staging"
    path.mkdir()
    return StagingArea(path)


def test_directory_goes_at_the_end_with_all_it_holds(area: StagingArea) -> None:
    with area.directory() as own:
        (own / "a").mkdir()
        (own / "a" / "f").write_text("x")
        assert area.sweep() == [] and own.exists()
    assert list(area.path.iterdir()) == []


def test_what_was_moved_out_stays(area: StagingArea, tmp_path: Path) -> None:
    with area.directory() as own:
        (own / "a").mkdir()
        os.rename(own / "a", tmp_path / "kept")
    assert (tmp_path / "kept").is_dir()


def test_leftovers_of_a_killed_process_are_swept(area: StagingArea) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path\n"
        "from layerstore.db.staging import StagingArea\n"
        "with StagingArea(Path(sys.argv[1])).directory() as own:\n"
        "    (own / 'f').touch(); print(own, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, area.path], capture_output=True, text=True)
    left = Path(child.stdout.strip())
    assert (left / "f").exists()
    with area.directory() as own:
        assert area.leftovers() == [], "it may be about to be locked"
        os.utime(left, (0, 0))
        assert area.leftovers() == [left]
        assert area.sweep() == [left]
        assert own.exists()
    assert list(area.path.iterdir()) == []


def test_whatever_else_is_in_there_is_swept(area: StagingArea) -> None:
    (area.path / "file").write_text("x")
    os.mkfifo(area.path / "fifo")
    (area.path / "link").symlink_to("/")
    area.sweep()
    assert list(area.path.iterdir()) == [] and Path("/etc").is_dir()


def test_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    deep = os.open(tmp_path, os.O_RDONLY)
    for name in ["d"] + ["n" * 100] * 300:
        os.mkdir(name, dir_fd=deep)
        inner = os.open(name, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    (tmp_path / "d" / "link").symlink_to(tmp_path)
    (tmp_path / "kept").write_text("x")
    remove_tree(tmp_path / "d")
    assert os.listdir(tmp_path) == ["kept"]


def test_absent_tree_and_single_file_are_well(tmp_path: Path) -> None:
    remove_tree(tmp_path / "never")
    (tmp_path / "link").symlink_to("nowhere")
    remove_tree(tmp_path / "link")
    assert os.listdir(tmp_path) == []


def test_unprivileged_owner_removes_directories_closed_to_itself() -> None:
    def work() -> None:
        with tempfile.TemporaryDirectory() as name:
            top = Path(name) / "t"
            (top / "a" / "b").mkdir(parents=True)
            (top / "a" / "b" / "f").write_text("x")
            for path in (top / "a" / "b", top / "a", top):
                path.chmod(0)
            remove_tree(top)
            assert not top.exists()

    children.run(work, nobody=os.geteuid() == 0)


def test_directory_claimed_before_it_was_locked_is_given_up(
    area: StagingArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, tries = fcntl.flock, itertools.count()

    def held_by_another_at_first(fd: int, how: int) -> None:
        if next(tries) == 0:
            raise BlockingIOError
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", held_by_another_at_first)
    with area.directory() as own:
        assert list(area.path.iterdir()) == [own]


def test_tree_that_its_maker_removes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    scandir = os.scandir

    def removed_first(fd: int) -> object:
        (tmp_path / "t").rmdir()
        return scandir(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", removed_first)
        remove_tree(tmp_path / "t")
    assert not (tmp_path / "t").exists()
