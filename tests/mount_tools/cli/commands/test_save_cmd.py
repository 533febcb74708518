"""`pyunion save`: archives that others load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.cli import Cli
from tests.helpers.mounts import wait_until

PYUNION = Path(sys.executable).with_name("pyunion")


@pytest.fixture
def saved(cli: Cli, tmp_path: Path) -> Cli:
    """A store with the image busy:1, made of a directory."""
    root = tmp_path / "rootfs"
    root.mkdir()
    (root / "motd").write_text("hello\n")
    cli.ok("import", str(root), "busy:1")
    return cli


def test_one_file_for_docker_and_oci(saved: Cli, tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    assert saved.ok("save", "busy:1", "-o", str(target)) == ""
    with tarfile.open(target) as tar:
        names = set(tar.getnames())
    assert {"manifest.json", "index.json", "oci-layout"} <= names
    saved.ok("image", "save", "--format", "oci-archive", "-o", str(target), "busy:1")
    with tarfile.open(target) as tar:
        assert "manifest.json" not in tar.getnames()


def test_a_pipe_and_a_directory(saved: Cli, tmp_path: Path) -> None:
    done = subprocess.run([PYUNION, "--root", saved.root, "save", "busy:1"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout[257:262] == b"ustar"
    saved.ok("save", "--format", "oci-dir", "-o", str(tmp_path / "layout"), "busy:1")
    assert {"blobs", "index.json", "oci-layout"} <= set(os.listdir(tmp_path / "layout"))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGKILL, -9)]
)
def test_a_signal_leaves_no_part_of_an_archive(
    cli: Cli, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    root, target = tmp_path / "rootfs", tmp_path / "out"
    root.mkdir()
    target.mkdir()
    with (root / "large").open("wb") as file:
        file.truncate(1 << 30)
    cli.ok("import", str(root), "large:1")
    words = ["save", "-o", str(target / "a.tar"), "large:1"]
    with subprocess.Popen([PYUNION, "--root", cli.root, "--no-sync", *words]) as command:
        wait_until(lambda: _writes_in(target, command.pid), "part of the archive")
        command.send_signal(number)
    assert (command.returncode, os.listdir(target)) == (status, [])


def _writes_in(directory: Path, pid: int) -> bool:
    """Tell whether process `pid` has written to a file beneath `directory`, named or not."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(link).startswith(f"{directory}/") and link.stat().st_size:
                return True
    return False


def test_refusals_leave_no_file(saved: Cli, tmp_path: Path) -> None:
    target = tmp_path / "a.tar"
    assert "No such image" in saved.fails("save", "nope", "busy:1", "-o", str(target))
    assert saved.fails("save", "busy:1", "-o", f"{tmp_path}/no/a.tar") == (
        f'failed to save image: invalid output path: directory "{tmp_path}/no" does not exist\n'
    )
    assert '"zip" is not a valid value' in saved.fails("save", "--format", "zip", "busy:1")
    assert "name it by -o DIR" in saved.fails("save", "--format", "oci-dir", "busy:1")
    assert saved.fails("save").startswith('"pyunion save" requires at least 1 argument.\n')
    assert not target.exists()


@pytest.mark.parametrize(
    ("where", "why"), [(">/dev/full", "No space left on device"), (">&-", "stdout is closed")]
)
def test_an_archive_that_cannot_be_written_is_not_lost_in_silence(
    saved: Cli, where: str, why: str
) -> None:
    words = [str(PYUNION), f"--root={saved.root}", "save", "busy:1"]
    done = subprocess.run(["sh", "-c", f'"$@" {where}', "sh", *words], capture_output=True)
    said = f"Error: the output cannot be written: {why}\n"
    assert (done.returncode, done.stderr) == (1, said.encode())


def test_a_terminal_gets_none(saved: Cli) -> None:
    leader, follower = os.openpty()
    done = subprocess.run(
        [PYUNION, "--root", saved.root, "save", "busy:1"],
        stdout=follower,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(leader)
    os.close(follower)
    assert (done.returncode, done.stderr) == (
        1,
        "cowardly refusing to save to a terminal. Use the -o flag or redirect\n",
    )
