"""What engine-check finds, by real mounts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from mount_tools.daemon.machine_check import check_machine, whiteout_text
from tests.helpers.io_uring import SWITCH, io_uring_disabled
from tests.helpers.mounts import (
    DEADLINE,
    REPOSITORY,
    helper_environment,
    mounted,
    require_fuse,
    require_root,
    wait_until,
)
from tests.helpers.users import device_mode
from unionfs.syscalls.mountinfo import read_mounts


def test_what_works_on_a_machine_with_fuse(tmp_path: Path) -> None:
    require_fuse()
    require_root()
    found = {finding.name: finding for finding in check_machine(tmp_path)}
    for name in ("mount", "xattrs", "whiteouts", "ids", "force_mask"):
        assert found[name].works, found[name].says
    assert all(finding.says for finding in found.values())
    assert list(tmp_path.iterdir()) == []
    assert not any(str(tmp_path).encode() in mount.mount_point for mount in read_mounts())


def test_a_machine_with_io_uring_switched_off(tmp_path: Path) -> None:
    """The reason names no option that nobody has given."""
    require_fuse()
    with io_uring_disabled():
        (found,) = (one for one in check_machine(tmp_path) if one.name == "io_uring")
    assert not found.works
    assert found.says == f"requests are read from /dev/fuse: {SWITCH} is not Y"


def test_a_signal_at_the_end_leaves_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the scratch directory is removed."""
    rmdir = os.rmdir

    def interrupted(*arguments: Any, **words: Any) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # pytest may have more threads
        rmdir(*arguments, **words)

    monkeypatch.setattr("mount_tools.daemon.machine_check.LOOKS", {"made": fill})
    monkeypatch.setattr(os, "rmdir", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_machine(tmp_path)
    assert list(tmp_path.iterdir()) == []


def fill(base: Path) -> str:
    (base / "some/more").mkdir(parents=True)
    return "made"


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("char", "deletions are devices 0:0"),
        ("xattr", "deletions are attributes"),
        ("aufs", "deletions are files .wh.NAME"),
    ],
)
def test_the_sentence_for_each_form_of_a_whiteout(tmp_path: Path, form: str, begins: str) -> None:
    """By default the form is the first that the filesystem of the layers has."""
    require_root()
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for path in (lower, upper, work):
        path.mkdir()
    (lower / "file").touch()
    with mounted([lower], upper, work, [f"whiteout={form}"]) as root:
        (root / "file").unlink()
    assert whiteout_text(upper, "file").startswith(begins)


def test_ids_in_the_user_namespace_of_a_rootless_engine() -> None:
    """There are only 65,536 ids."""
    script = (
        "from mount_tools.daemon import machine_check as module; from pathlib import Path;"
        "module.LOOKS = {'ids': module.LOOKS['ids']};"
        "print(module.check_machine(Path('%s')))"
    )
    with (
        device_mode(0o666),
        tempfile.TemporaryDirectory() as scratch,
        subprocess.Popen(
            ["unshare", "-U", "sh", "-c", "echo; cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder,
    ):
        assert holder.stdout is not None
        holder.stdout.readline()
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder.pid}/{name}").write_text("0 100000 65536")
        os.chown(scratch, 100_000, 100_000)
        found = subprocess.run(
            [
                *("nsenter", f"--user=/proc/{holder.pid}/ns/user", "-S0", "-G0"),
                *("unshare", "-m", sys.executable, "-c", script % scratch),
            ],
            env=helper_environment(),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        holder.communicate()
    assert "Finding(name='ids', works=True" in found.stdout, found.stdout + found.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["begun", "live"])
def test_an_interrupt_leaves_neither_mount_nor_directory(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    require_fuse()
    require_root()

    def live() -> bool:
        return any(os.fsencode(tmp_path) in mount.mount_point for mount in read_mounts())

    with subprocess.Popen(
        [sys.executable, "-m", "mount_tools.pyunion", "engine-check", "--dir", tmp_path],
        env=helper_environment(),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        wait_until(
            lambda: any(tmp_path.glob("*/mount/root")) if moment == "begun" else live(), moment
        )
        command.send_signal(number)
        said = command.communicate(timeout=DEADLINE)
    assert (command.returncode, list(tmp_path.iterdir()), live()) == (130, [], False), said


def test_each_no_has_the_reason_of_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    found = check_machine(tmp_path)
    assert not found[0].works and "ended with 1" in found[0].says
