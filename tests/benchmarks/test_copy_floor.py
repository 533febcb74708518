"""The floor of a copy_up: it does the work, in C and in Python, and is measured as unions are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import copy_floor
from benchmarks.cell import Wrong
from benchmarks.copy_floor import Used, flat_tree, kernel_threads_ns, of_floor, of_union, table
from benchmarks.floor import why_not_compiled
from benchmarks.floor_python import copies
from benchmarks.subjects import BY_NAME
from tests.helpers.mounts import REPOSITORY, require_root
from unionfs.core.origin import decode_origin

FILES = 40


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    require_root()
    made = tmp_path / "copy_floor"
    if why := why_not_compiled(made, [copy_floor.SOURCE]):
        pytest.skip(why)
    return [str(made)]


PYTHON = [sys.executable, "-m", "benchmarks.floor_python.copies"]


@pytest.mark.parametrize("synced", [0, 1, 7])
@pytest.mark.parametrize("language", ["C", "Python"])
def test_floors_copy_each_file_up(
    tmp_path: Path, program: list[str], language: str, synced: int
) -> None:
    stack = flat_tree(tmp_path / "layers", FILES)
    lower, upper, work = stack.where / "0/all", tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    before = upper.stat()
    words = program if language == "C" else PYTHON
    subprocess.run([*words, lower, upper, work, str(synced)], cwd=REPOSITORY, check=True)
    assert sorted(os.listdir(upper)) == sorted(os.listdir(lower)) and not os.listdir(work)
    assert upper.stat().st_mtime_ns == before.st_mtime_ns
    for path in upper.iterdir():
        found, wanted = path.stat(), (lower / path.name).stat()
        assert path.read_bytes() == (lower / path.name).read_bytes()
        assert (found.st_mode, found.st_mtime_ns) == (wanted.st_mode, wanted.st_mtime_ns)
        assert found.st_uid == copies.OWNER
        assert os.listxattr(path) == ["trusted.overlay.origin"]


def test_floor_marks_the_origin_as_a_union_does(tmp_path: Path, program: list[str]) -> None:
    marks: list[bool] = []
    for words in (program, PYTHON):
        stack = flat_tree(tmp_path / f"{len(marks)}", 1)
        upper, work = tmp_path / f"upper{len(marks)}", tmp_path / f"work{len(marks)}"
        upper.mkdir()
        work.mkdir()
        lower = stack.where / "0/all"
        subprocess.run([*words, lower, upper, work, "1"], cwd=REPOSITORY, check=True)
        (path,) = upper.iterdir()
        origin = decode_origin(os.getxattr(path, "trusted.overlay.origin"))
        assert origin is not None
        marks.append(origin.ino == (lower / path.name).stat().st_ino)
    assert marks == [True, True]


def test_run_is_measured_and_leaves_nothing(tmp_path: Path, program: list[str]) -> None:
    stack = flat_tree(tmp_path / "layers", FILES)
    used = of_floor([*program, "7"], tmp_path, stack)
    assert used.wall > 0 and used.programs > 0 and used.kernel >= 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy_floor", "layers"]


def test_copy_that_is_not_whole_is_no_figure(tmp_path: Path, program: list[str]) -> None:
    stack = flat_tree(tmp_path / "layers", FILES)
    next((stack.where / "0/all").iterdir()).unlink()
    with pytest.raises(Wrong, match="did not copy all files"):
        of_floor([*program, "1"], tmp_path, stack)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy_floor", "layers"]


def test_union_copies_the_same_files_up(tmp_path: Path) -> None:
    require_root()
    stack = flat_tree(tmp_path / "layers", FILES)
    assert of_union(BY_NAME["overlayfs"], tmp_path, stack).programs > 0


def test_kernel_threads_are_known_apart_from_processes() -> None:
    found = kernel_threads_ns()
    if not found:
        pytest.skip("the kernel's threads are not seen from here")
    assert str(os.getpid()) not in found and str(threading.get_native_id()) not in found


def test_table_has_the_least_processor_time_and_the_median_wall_time() -> None:
    rounds = [Used(90, 50, 20), Used(70, 60, 5), Used(80, 70, 0)]
    assert table({"ours": rounds}).splitlines()[2] == "| ours | 65 | 60 | 5 | 80 |"


def test_what_cannot_be_mounted_is_left_out(
    tmp_path: Path,
    program: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(copy_floor, "PROGRAM", Path(program[0]))
    monkeypatch.setattr(copy_floor, "UNIONS", ("overlayfs", "fuse-overlayfs"))
    absent = replace(BY_NAME["fuse-overlayfs"], command=lambda place, _: ["/nonexistent"])
    monkeypatch.setitem(BY_NAME, "fuse-overlayfs", absent)
    assert copy_floor.main(["--files", "20", "--rounds", "2", "--work", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.err.count("fuse-overlayfs is left out: /nonexistent cannot be run") == 1
    titles = [line.split(" | ")[0] for line in said.out.splitlines()[2:]]
    assert (
        titles[0] == "| C, not synced" and titles[-1] == "| kernel overlayfs" and len(titles) == 7
    )


def test_a_missing_floor_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr(copy_floor, "PROGRAM", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="the floor cannot be compiled: cc cannot be run"):
        copy_floor.main([])
