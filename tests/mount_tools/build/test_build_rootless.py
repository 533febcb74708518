"""Builds of an ordinary user, whose user namespace has one id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.users import as_user, give, home_of_a_container_user

TOOLS = ("sh", "cat", "echo", "ls", "mkdir", "mv", "rm", "stat")
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
    with home_of_a_container_user(TOOLS) as home:
        (home / "root/f").write_text("old")
        (home / "root/folder").mkdir()
        (home / "root/folder/f").write_text("in a folder")
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


def test_its_steps_go_through_the_kernel_where_that_shows_all(home: Path) -> None:
    look = "RUN cat /proc/self/mountinfo\n"
    (home / "context/Containerfile").write_text(f"FROM one:1\n{look}RUN echo > /new\n{look}")
    (home / "context/moved").write_text(f"FROM two:1\n{look}RUN cat /moved/f\n")
    build = f"pyunion build {home}/context"
    done = as_user(home, f"pyunion import {home}/root one:1", build)
    assert done.returncode == 0, done
    assert done.stdout.count(" / / rw,") == done.stdout.count(" - overlay overlay ") == 2
    # The directory that was moved has a mark which the kernel ignores in a user namespace.
    done = as_user(
        home,
        "pyunion run --name box one:1 mv /folder /moved",
        "pyunion commit box two:1",
        f"{build} -f {home}/context/moved",
    )
    assert done.returncode == 0, done
    assert " - fuse.pyunion " in done.stdout and " - overlay overlay " not in done.stdout
    assert "in a folder" in done.stdout


def test_the_container_of_a_failed_step_can_be_removed(home: Path) -> None:
    text = "FROM one:1\nRUN mkdir /closed && chmod 0 /closed\nRUN echo > /f; exit 3\n"
    (home / "context/Containerfile").write_text(text)
    done = as_user(
        home, f"pyunion import {home}/root one:1", f"pyunion build -t made {home}/context"
    )
    assert done.returncode == 3, done
    (kept,) = (home / "data/pyunion/containers").iterdir()
    done = as_user(home, f"pyunion rm {kept.name}", "pyunion check")
    assert done.returncode == 0, done
    assert not kept.exists()
    assert list((home / "data/pyunion/staging").iterdir()) == []
