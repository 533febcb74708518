"""Files for ids, where somebody has put a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.errors import Conflict
from mount_tools.cli import id_file
from tests.helpers.containers import Containers


def test_a_link_is_neither_followed_nor_kept(tmp_path: Path) -> None:
    """It may be another user's, and lead to a file of root that is not there yet."""
    link, target = tmp_path / "id", tmp_path / "target"
    link.symlink_to(target)
    with pytest.raises(Conflict, match="Container ID file found"):
        id_file.refuse_used(str(link))
    with pytest.raises(FileExistsError):
        id_file.write(str(link), "sha256:1")
    assert not target.exists()
    id_file.remove(str(link))
    id_file.remove(str(link))
    id_file.refuse_used(str(link))
    id_file.write(str(link), "sha256:1")
    assert link.read_text() == "sha256:1" and not link.is_symlink()


def test_a_device_is_kept(tmp_path: Path) -> None:
    """Root would lose /dev/stdout."""
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    for path in (fifo, link):
        with pytest.raises(Conflict, match="is no regular file"):
            id_file.remove(str(path))
    assert link.is_fifo() and link.is_symlink()


def test_the_commands_use_it(containers: Containers, tmp_path: Path) -> None:
    link, target = tmp_path / "id", tmp_path / "target"
    link.symlink_to(target)
    assert "ID file found" in containers("create", "--cidfile", str(link), "busy:1").stderr
    (tmp_path / "Containerfile").write_text("FROM busy:1\nENV a=b\n")
    image = containers.ok("build", "-q", "--iidfile", str(link), str(tmp_path))
    assert link.read_text() == image and not target.exists()
