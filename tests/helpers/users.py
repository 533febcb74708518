"""An ordinary user for tests that run as root: its directory, its device, its commands."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.containers import add_busybox
from tests.helpers.mounts import (
    REPOSITORY,
    helper_environment,
    mount_type,
    require_fuse,
    require_root,
    run,
    wait_until,
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


@contextmanager
def home_of_a_container_user(tools: Sequence[str]) -> Iterator[Path]:
    """Yield the directory of a user who can run containers, with busybox in `root` as `tools`.

    The caller gives it to the user.  At the end every process that sees it has to be gone.
    """
    with device_mode(0o666), home_of_a_user() as home:
        probe = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        probe += ["unshare", "-Urmpf", "--mount-proc", "true"]
        tried = subprocess.run(probe, capture_output=True, text=True)
        if tried.returncode != 0:
            pytest.skip(f"an ordinary user cannot have namespaces here: {tried.stderr.strip()}")
        add_busybox(home / "root", tools)
        yield home
        wait_until(lambda: not processes_that_see(home), "every process of the store to end")


def give(top: Path) -> None:
    """Make all of `top` the user's."""
    for path in [top, *top.rglob("*")]:
        os.lchown(path, NOBODY, NOBODY)


def as_user(home: Path, *commands: str | list[str]) -> subprocess.CompletedProcess[str]:
    """Run the commands; of one that begins with $ the rest is for the shell.

    The store is where an ordinary user has it by default, in their $XDG_DATA_HOME.
    """
    lines = [json.dumps(_words(command)) for command in commands]
    environment = {**helper_environment(), "XDG_DATA_HOME": f"{home}/data", "HOME": str(home)}
    environment.pop("PYUNION_ROOT", None)
    return subprocess.run(
        [sys.executable, "-m", "tests.helpers.pyunion_as_user"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        env=environment,
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
