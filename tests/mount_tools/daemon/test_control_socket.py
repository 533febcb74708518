"""The control socket is for its owner, at a path of any length, and replaces a dead one."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mount_tools.daemon.control_socket import listen
from tests.helpers.mounts import DEADLINE, helper_environment


def test_the_socket_is_for_its_owner_whatever_the_umask(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)  # more than the 108 bytes of an address
    deep.mkdir()
    before = os.umask(0)
    try:
        listen(os.fspath(deep / "control")).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((deep / "control").lstat().st_mode) == 0o600


def test_a_dead_one_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "control")
    with listen(path), pytest.raises(OSError, match="in use") as caught:
        listen(path)
    assert caught.value.errno == errno.EADDRINUSE
    listen(path).close()


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("mine")
    with pytest.raises(FileExistsError):
        listen(os.fspath(tmp_path / "control"))
    assert (tmp_path / "control").read_text() == "mine"


def test_a_mount_does_not_wait_for_the_import_of_trio() -> None:
    script = (
        "import sys, mount_tools.daemon.serve, mount_tools.daemon.control_socket\n"
        "import unionfs.transports.dev_fuse, mount_tools.daemon.log\n"
        "late = {'trio', 'logging.handlers', 'tempfile', 'subprocess', 'argparse', 'layerstore'}\n"
        "sys.exit(' '.join(late & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=helper_environment(),
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"\n")


def test_sockets_are_closed(tmp_path: Path) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(os.fspath(tmp_path / "control"))
        taken.listen()
        with pytest.raises(OSError):
            listen(os.fspath(tmp_path / "control"))
    assert len(os.listdir("/proc/self/fd")) == fds
