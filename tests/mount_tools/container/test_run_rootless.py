"""Containers run by an ordinary user, who is root in them and in nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.as_user import NOBODY
from tests.helpers.users import as_user, give, home_of_a_container_user

TOOLS = ("sh", "chmod", "mkdir", "cat", "echo", "id", "ls", "sleep", "tty", "touch", "true", "grep")


@pytest.fixture
def home() -> Iterator[Path]:
    with home_of_a_container_user(TOOLS) as home:
        give(home)
        assert as_user(home, f"pyunion import {home}/root one:1").returncode == 0
        yield home


def shell(script: str, *flags: str, image: str = "one:1") -> list[str]:
    return ["pyunion", "run", "--rm", *flags, image, "sh", "-c", script]


def test_user_is_root_inside_and_nowhere_else(home: Path) -> None:
    (home / "shared").mkdir()
    give(home)
    script = (
        "id; touch /new /mnt/new; ls /sys/fs/cgroup; echo x > /dev/null; cat /etc/hosts; exit 7"
    )
    done = as_user(home, shell(script, "-v", f"{home}/shared:/mnt"))
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.splitlines()[:2] == ["uid=0 gid=0", "127.0.0.1\tlocalhost"]
    assert os.stat(home / "shared/new").st_uid == NOBODY
    done = as_user(home, "pyunion run --rm -u 1000 one:1 true")
    assert (
        done.returncode == 125 and "there is no user 1000:0 in this container, which" in done.stderr
    )
    assert as_user(home, "pyunion run --rm one:1 nosuch").returncode == 127
    assert as_user(home, "pyunion ps -aq").stdout == ""


def test_user_starts_enters_commits_and_stops_it(home: Path) -> None:
    begin = [
        "pyunion",
        "run",
        "-d",
        "--name",
        "bg",
        "one:1",
        "sh",
        "-c",
        "echo up > /up; sleep 1000",
    ]
    done = as_user(
        home,
        begin,
        "pyunion exec bg sh -c ls",
        ["pyunion", "exec", "bg", "sh", "-c", "id; echo more > /more"],
        "pyunion exec -t bg tty",
        "pyunion diff bg",
        "pyunion commit bg two:1",
        "pyunion stop -t 5 bg",
        "pyunion start bg",
        "pyunion rm -f bg",
        shell("cat /more", "-t", image="two:1"),
        "pyunion check",
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert {"uid=0 gid=0", "/dev/pts/0", "A /more", "A /up", "more"} <= set(said)
    assert not [line for line in said if line.startswith(("A /proc", "A /etc", "C"))]
    assert as_user(home, "pyunion exec bg ls").returncode == 1


def test_what_keeps_out_all_but_root_keeps_out_no_command(home: Path) -> None:
    """Root of a container may read what its owner outside may not."""
    script = "echo s > /s; mkdir /d; echo x > /d/x; chmod 0 /s /d; cat /s /d/x"
    done = as_user(
        home,
        ["pyunion", "run", "--name", "box", "one:1", "sh", "-c", script],
        "pyunion diff box",
        "pyunion commit box two:1",
        "pyunion check",
        f"pyunion save -o {home}/two.tar two:1",
        "pyunion rmi two:1",
        f"pyunion load -i {home}/two.tar",
        shell("cat /s /d/x", image="two:1"),
        ["pyunion", "run", "-d", "--name", "live", "two:1", "sh", "-c", "touch /d/y; sleep 1000"],
        "pyunion diff live",
        "pyunion commit live three:1",
        "pyunion rm -f live",
        shell("cat /d/y", image="three:1"),
        f"pyunion export -o {home}/box.tar box",
        f"pyunion mount box {home}/point",
        f"$echo more > {home}/point/more; cat {home}/point/more; fusermount3 -u {home}/point",
        "pyunion check",
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[:5] == ["s", "x", "A /d", "A /d/x", "A /s"]
    assert said.count("s") == said.count("x") == 2 and "more" in said
    assert len([line for line in said if line.endswith("no findings")]) == 2


def test_user_has_volumes_with_the_images_files(home: Path) -> None:
    script = (
        "echo x > /dev/x; ls /bin /d; echo kept > /bin/note; chmod 0 /bin/note; "
        "mkdir /d/sub; chmod 0 /d/sub"
    )
    flags = ("-v", "tools:/bin", "-v", "data:/d", "-v", "/unnamed", "--device", "/dev/null:/dev/x")
    done = as_user(
        home,
        shell(script, *flags),
        shell("cat /b/note", "-v", "tools:/b"),
        "pyunion volume ls -q",
        "pyunion volume rm tools data",
        "pyunion check",
        "pyunion info",
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[1:3] == ["busybox", "cat"]
    assert "kept\ndata\ntools\ntools\ndata\n" in done.stdout
    assert "only root: /etc/subuid has no line for " in done.stdout
    assert list((home / "data/pyunion/volumes").iterdir()) == []


def test_user_pauses_and_sees_the_processes(home: Path) -> None:
    script = "sleep 1000 & echo > /begun; sleep 999"
    done = as_user(
        home,
        ["pyunion", "run", "-d", "--name", "bg", "one:1", "sh", "-c", script],
        "pyunion pause bg",
        "pyunion ps --format {{.State}}",
        "pyunion unpause bg",
        ["pyunion", "exec", "bg", "sh", "-c", "until test -e /begun; do sleep 0.02; done"],
        "pyunion top bg -eo pid,args",
        "pyunion rm -f bg",
    )
    assert done.returncode == 0, done
    assert "bg\npaused\nbg\n" in done.stdout
    assert "sleep 1000" in done.stdout and "sleep 999" in done.stdout
    assert "bg is paused by SIGSTOP" in done.stderr
