"""execveat(2): by a directory and a name, without following a link and without scripts."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from tests.helpers.children import spawn, wait
from unionfs.syscalls.execveat import execveat


def outcome(directory: Path, name: bytes) -> int:
    """Return the exit status of the program, or 100 and the errno."""

    def run() -> None:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            execveat(fd, name, ("sh", "-c", 'test "$A" = "b c" && exit 7'), {"A": "b c"})
        except OSError as error:
            os._exit(100 + (error.errno or 0))

    return wait(spawn(run))


def test_a_program_has_the_words_and_the_environment(tmp_path: Path) -> None:
    shutil.copy(shutil.which("sh") or "/bin/sh", tmp_path / "shell")
    assert outcome(tmp_path, b"shell") == 7


def test_no_link_is_followed_and_no_script_is_run(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/bin/sh")
    (tmp_path / "script").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "data").write_text("")
    assert outcome(tmp_path, b"link") == 100 + errno.ELOOP
    assert outcome(tmp_path, b"script") == 100 + errno.ENOENT
    assert outcome(tmp_path, b"data") == 100 + errno.EACCES
    assert outcome(tmp_path, b"nosuch") == 100 + errno.ENOENT
