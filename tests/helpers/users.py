"""An ordinary user for tests that run as root: its directory, its device, its commands."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.as_user import NOBODY
from tests.helpers.mounts import (
    REPOSITORY,
    helper_environment,
    mount_type,
    require_fuse,
    require_root,
    run,
)


@contextmanager
def device_mode(mode: int) -> Iterator[None]:
    """Give /dev/fuse that mode; distributions ship it with 0666."""
    require_root()
    require_fuse()
    before = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", mode)
    try:
        yield
    finally:
        os.chmod("/dev/fuse", before)


@contextmanager
def home_of_a_user() -> Iterator[Path]:
    """Yield the user's directory, with `root`, to be filled and imported, and `point`, to mount on.

    Not in pytest's own directory: each start of pytest closes that to others.
    """
    with tempfile.TemporaryDirectory(prefix="pyunion-user-") as scratch:
        top = Path(scratch).resolve()
        for name in ("root", "point"):
            (top / name).mkdir()
        give(top)
        try:
            yield top
        finally:
            if mount_type(top / "point") is not None:
                run("umount", "-l", top / "point")


def give(top: Path) -> None:
    """Make all of `top` the user's."""
    for path in [top, *top.rglob("*")]:
        os.lchown(path, NOBODY, NOBODY)


def as_user(home: Path, *commands: str | list[str]) -> subprocess.CompletedProcess[str]:
    """Run the commands; of one that begins with $ the rest is for the shell."""
    lines = [json.dumps(_words(command)) for command in commands]
    return subprocess.run(
        [sys.executable, "-m", "tests.helpers.pyunion_as_user"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        env={**helper_environment(), "PYUNION_ROOT": f"{home}/store", "HOME": str(home)},
        cwd=REPOSITORY,
        timeout=120,
        check=False,
    )


def _words(command: str | list[str]) -> list[str]:
    if isinstance(command, list):
        return command
    return ["sh", "-ec", command[1:]] if command.startswith("$") else command.split()


def processes_that_see(home: Path) -> list[str]:
    """Return the pids of processes whose mount namespace has something of `home` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and str(home) in (entry / "mountinfo").read_text():
                found.append(entry.name)
        except OSError:
            continue
    return found
