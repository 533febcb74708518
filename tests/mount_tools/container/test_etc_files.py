"""The files of /etc that a container sees."""

from __future__ import annotations

import os
from pathlib import Path

from mount_tools.container.etc_files import etc_files
from mount_tools.container.host_config import HostConfig


def test_names_and_added_hosts(tmp_path: Path) -> None:
    found = etc_files(os.fspath(tmp_path), "name", HostConfig(extra_hosts=("db:10.0.0.1",)))
    assert Path(found["etc/hostname"]).read_text() == "name\n"
    hosts = Path(found["etc/hosts"]).read_text().splitlines()
    assert "127.0.1.1\tname" in hosts and hosts[-1] == "10.0.0.1\tdb"


def test_the_hosts_resolv_conf_is_copied(tmp_path: Path) -> None:
    found = etc_files(os.fspath(tmp_path), "name", HostConfig())
    assert os.path.exists("/etc/resolv.conf") == ("etc/resolv.conf" in found)
    for path in found.values():
        assert Path(path).parent == tmp_path


def test_every_user_can_read_them(tmp_path: Path, umask_077: None) -> None:
    for path in etc_files(os.fspath(tmp_path), "name", HostConfig()).values():
        assert os.stat(path).st_mode & 0o777 == 0o644
