"""A whole run of the smallest size, and that nothing of it stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks_main
from benchmarks.results import from_json
from benchmarks.workloads import WORKLOADS
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.mounts import REPOSITORY, require_fuse, require_root, wait_until
from tests.helpers.processes import end

# The chroot's Debian comes from a mirror: that is for the whole benchmark, as is to
# install what a workload runs.
NOT_HERE = {"chroot"} | {
    name for name, program in (("io", "fio"), ("git", "git")) if shutil.which(program) is None
}
# The plain ones, ours and the floors.
FLOORS = ("floor-dev", "floor-python-dev", "least-union-dev")
MEASURED = ("native", "overlayfs", "pyunion-dev", *FLOORS)
HERE = [workload.name for workload in WORKLOADS if workload.name not in NOT_HERE]


def command(work: Path, *arguments: str) -> list[str]:
    require_fuse()
    require_root()
    program = Path(sys.executable).with_name("mount.pyunion")
    if not program.exists():
        pytest.skip(f"{program} is not installed (pip install -e .)")
    where = ["--work", str(work), "--out", str(work / "out")]
    return [sys.executable, "-m", "benchmarks", "--scale", "tiny", *where, *arguments]


def processes_that_name(path: Path) -> list[bytes]:
    """Return the command lines that have `path` in them."""

    def command_lines() -> Iterator[bytes]:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                yield process.read_bytes()
            except OSError:
                continue  # it has just ended

    return [line for line in command_lines() if bytes(path) in line]


@pytest.mark.parametrize(
    ("subject", "only"),
    [("floor-python-uring", "names"), ("least-union-uring", "names,copy-up,grep")],
)
def test_rings_of_a_floor_serve_two_clients(tmp_path: Path, subject: str, only: str) -> None:
    argv = command(tmp_path, "--only", only, "--subjects", subject)
    with io_uring_enabled():
        done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = from_json((tmp_path / "out.json").read_text())
    assert results.rows
    for row in results.rows:
        series = results.of(row, subject)
        assert series.median is not None, f"{row}: {series.failed}"


def test_every_workload_gives_a_figure(tmp_path: Path) -> None:
    words = ["--only", ",".join(HERE), "--subjects", ",".join(MEASURED)]
    done = subprocess.run(command(tmp_path, *words), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = from_json((tmp_path / "out.json").read_text())
    for row in results.rows:
        series = results.of(row, "pyunion-dev")
        assert series.median is not None, f"{row}: {series.failed}"
        assert not results.of(row, "native").failed
        assert [results.of(row, floor).failed for floor in FLOORS] == [""] * len(FLOORS), row
    assert "Geometric means" in done.stdout
    ElementTree.parse(tmp_path / "out.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.svg"]
    assert processes_that_name(tmp_path) == []


def test_a_subject_that_is_not_there_is_failed_and_stops_nobody(tmp_path: Path) -> None:
    words = command(tmp_path, "--only", "find", "--subjects", "native,fuse-overlayfs")
    nowhere = {**os.environ, "PATH": str(tmp_path / "bin")}
    (tmp_path / "bin").mkdir()
    for name in ("cp", "find", "kill", "setpriv", "umount", "unshare"):
        found = next(p / name for p in map(Path, ("/bin", "/usr/bin")) if (p / name).exists())
        (tmp_path / "bin" / name).symlink_to(found)
    done = subprocess.run(words, cwd=REPOSITORY, env=nowhere, capture_output=True, text=True)
    results = from_json((tmp_path / "out.json").read_text())
    assert "fuse-overlayfs cannot be run" in results.of("find-warm", "fuse-overlayfs").failed
    assert results.median("find-warm", "native") is not None, done.stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_behind_when_a_signal_ends_it(tmp_path: Path, signum: int) -> None:
    words = command(tmp_path, "--rounds", "100", "--only", "find", "--subjects", "pyunion-dev")
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(words, cwd=REPOSITORY, stdout=stderr, stderr=stderr)
    try:
        wait_until(lambda: "round 2" in log.read_text(), "the second round")
        process.send_signal(signum)
        status = process.wait(30)
    finally:
        end(process)
    wait_until(lambda: processes_that_name(tmp_path) == [], "the end of all its processes")
    if signum == signal.SIGKILL:
        return
    assert status == benchmarks_main.INTERRUPTED, log.read_text()
    assert list(tmp_path.glob("bench-*")) == []
    assert from_json((tmp_path / "out.json").read_text()).median("find-warm", "pyunion-dev")


@pytest.mark.parametrize("words", [["--only", "nothing"], ["--subjects", "aufs"]])
def test_unknown_names_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="no such"):
        benchmarks_main.main(words)


def test_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks_main.main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(workload.name in printed for workload in WORKLOADS)
