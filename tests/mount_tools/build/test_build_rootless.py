"""Builds of an ordinary user, whose user namespace has one id."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.mounts import require
from tests.helpers.users import as_user, device_mode, give, home_of_a_user

TOOLS = ("sh", "cat", "echo", "ls", "mkdir", "rm", "stat")
FILE = """FROM one:1 AS first
COPY --chown=5:6 f /owned/f
COPY --chown=7:8 --chmod=4751 f /owned/s
RUN echo made > /made && rm /bin/cat
FROM one:1
ENV A=b
RUN test "$(cat /bin/../f)" = old && echo $A > /a
WORKDIR /w
COPY --from=first /owned /owned
COPY --from=first /made made
RUN ls / /w && cat made
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with device_mode(0o666), home_of_a_user() as home:
        probe = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        probe += ["unshare", "-Urmpf", "--mount-proc", "true"]
        tried = subprocess.run(probe, capture_output=True, text=True)
        if tried.returncode != 0:
            pytest.skip(f"an ordinary user cannot have namespaces here: {tried.stderr.strip()}")
        busybox = shutil.which("busybox")
        require(busybox is not None, "busybox is not installed")
        assert busybox is not None
        (home / "root/bin").mkdir()
        shutil.copy(busybox, home / "root/bin/busybox")
        for name in TOOLS:
            (home / "root/bin" / name).symlink_to("busybox")
        (home / "root/f").write_text("old")
        (home / "context").mkdir()
        (home / "context/Containerfile").write_text(FILE)
        (home / "context/f").write_text("f")
        give(home)
        yield home


def test_an_ordinary_user_builds(home: Path) -> None:
    build = f"pyunion build -t made {home}/context"
    done = as_user(home, f"pyunion import {home}/root one:1", build, build)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert "made" in lines and lines.count(" ---> Using cache") == 9
    # What the namespace cannot show is recorded, and right in an archive.
    listing = f"$ tar -tvf {home}/out.tar --numeric-owner a owned w/made"
    done = as_user(
        home,
        "pyunion create --name box made",
        ["pyunion", "export", "-o", f"{home}/out.tar", "box"],
        listing,
    )
    assert done.returncode == 0, done
    listed = [" ".join(line.split()[:2]) for line in done.stdout.splitlines()[1:]]
    assert listed == [
        "-rw-r--r-- 0/0",
        "drwxr-xr-x 0/0",
        "-rw-r--r-- 5/6",
        "-rwsr-x--x 7/8",
        "-rw-r--r-- 0/0",
    ]
