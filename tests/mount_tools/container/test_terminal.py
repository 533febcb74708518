"""A container's terminal: of its own devpts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.terminal import open_terminal
from tests.helpers.mounts import require


def test_a_pair_of_a_roots_own_devpts_and_of_nothing_else(tmp_path: Path) -> None:
    require(os.path.exists("/dev/pts/ptmx"), "there is no devpts here")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        master, slave = open_terminal(root, (12, 34))
    finally:
        os.close(root)
    assert os.ttyname(slave).startswith("/dev/pts/")
    assert os.get_terminal_size(slave) == (34, 12)
    for fd in (master, slave):
        assert not os.get_inheritable(fd)
        os.close(fd)
    (tmp_path / "dev/pts").mkdir(parents=True)
    (tmp_path / "dev/pts/ptmx").touch()
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(StoreError, match="no devpts"):
            open_terminal(root, None)
    finally:
        os.close(root)
