"""Files created for another user by one thread."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.helpers.mounts import DEADLINE
from unionfs.syscalls.fsids import FsIds

pytestmark = pytest.mark.usefixtures("as_root")


def filesystem_ids() -> tuple[int, int]:
    """Return fsuid and fsgid of this thread."""
    words = {}
    with open("/proc/thread-self/status") as status:
        for line in status:
            name, _, rest = line.partition(":")
            words[name] = rest.split()
    return int(words["Uid"][3]), int(words["Gid"][3])


def test_other_ids_are_those_of_one_thread_only(tmp_path: Path) -> None:
    inside, outside = threading.Event(), threading.Event()

    def make() -> None:
        with FsIds(1234, 5678):
            (tmp_path / "theirs").touch()
            inside.set()
            outside.wait(DEADLINE)

    thread = threading.Thread(target=make)
    thread.start()
    assert inside.wait(DEADLINE)
    (tmp_path / "ours").touch()
    outside.set()
    thread.join()
    assert (tmp_path / "theirs").stat()[4:6] == (1234, 5678)
    assert (tmp_path / "ours").stat()[4:6] == (0, 0)


def test_the_ids_come_back_after_an_error(tmp_path: Path) -> None:
    before = filesystem_ids()
    with pytest.raises(FileExistsError), FsIds(1234, 5678):
        assert filesystem_ids() == (1234, 5678)
        os.mkdir(tmp_path)
    assert filesystem_ids() == before


def test_capabilities_are_kept_under_another_fsuid(tmp_path: Path) -> None:
    """A directory that only root may write to takes the file of another user."""
    tmp_path.chmod(0o700)
    with FsIds(1234, 5678):
        (tmp_path / "file").touch()
    assert (tmp_path / "file").stat()[4:6] == (1234, 5678)
