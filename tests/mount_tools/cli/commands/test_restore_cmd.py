"""restore: paths of a container that runs, is stopped or is mounted are as in its image again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.containers import Containers

CHANGE = (
    "echo changed > /file; chmod 600 /etc/passwd; mv /etc/group /etc/moved; "
    "mkdir /new; echo in > /new/in; echo x > /bin/x"
)


@pytest.fixture(params=["running", "stopped", "mounted"])
def box(request: pytest.FixtureRequest, containers: Containers, tmp_path: Path) -> str:
    """A container that has changed its image, in each of its states."""
    if request.param == "running":
        containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
        containers.ok("exec", "box", "sh", "-c", CHANGE)
    else:
        containers.ok("run", "--name", "box", "busy:1", "sh", "-c", CHANGE)
    if request.param == "mounted":
        (tmp_path / "point").mkdir()
        containers.ok("mount", "box", str(tmp_path / "point"))
    return str(request.param)


def test_there_and_not_there(containers: Containers, box: str) -> None:
    paths = ["/file", "etc/passwd", "/etc/group", "/etc/moved", "/new", "/bin"]
    shown = containers.ok("restore", "--dry-run", "box", *paths).splitlines()
    wanted = {"C /file", "C /etc/passwd", "D /etc/group", "A /etc/moved", "A /new", "A /new/in"}
    assert set(shown) == wanted | {"C /bin", "A /bin/x"}
    before = containers.ok("diff", "box")
    assert wanted <= set(before.splitlines())
    told = containers.ok("restore", "box", *paths).splitlines()
    assert told == ["/file", "/etc/passwd", "/etc/group", "/etc/moved", "/new", "/bin"]
    if box == "running":
        assert containers.ok("exec", "box", "cat", "/file") == "of the image"
        assert containers.ok("exec", "box", "ls", "/etc/group") == "/etc/group"
        assert containers("exec", "box", "ls", "/new").returncode == 1
        containers.ok("stop", "-t", "0", "box")
    if box == "mounted":
        containers.ok("umount", "box")
    left = containers.ok("diff", "box").splitlines()
    assert not set(left) & (wanted | {"A /bin/x", "C /bin"})
    assert left == []
    assert containers.ok("restore", "box", "/file", "/bin") == ""
    containers.ok("check")


def test_a_program_keeps_the_file_that_it_has_open(containers: Containers, tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.mkdir()
    containers.ok("create", "--name", "box", "busy:1", "true")
    containers.ok("mount", "box", str(point))
    fd = os.open(point / "file", os.O_RDWR)
    try:
        os.pwrite(fd, b"mine", 0)
        assert (point / "file").read_text() == "minehe image"
        assert containers.ok("restore", "box", "/file") == "/file"
        assert (point / "file").read_text() == "of the image"
        os.pwrite(fd, b"more", 4)
        assert os.pread(fd, 100, 0) == b"minemoremage"
        assert (point / "file").read_text() == "of the image"
    finally:
        os.close(fd)
        containers.ok("umount", "box")
    assert containers.ok("diff", "box") == ""


def test_what_is_said_instead(containers: Containers) -> None:
    script = (
        "busybox rm -r /tmp; mv /etc /other; mkdir /etc; echo x > /etc/passwd; ln -s /other /link"
    )
    containers.ok(
        "run",
        "--name",
        "box",
        "busy:1",
        "sh",
        "-c",
        script,
    )
    for path, text in {
        "/etc/passwd": "Error: /etc is not the image's, it was renamed or made anew: restore /etc",
        "/other/passwd": "Error: /other is not in the image: restore /other",
        "/link/passwd": "Error: /other is not in the image: restore /other",
        "/tmp/x": "Error: /tmp was deleted: restore /tmp",
        "/none": "Error: neither the image nor the container has /none",
        "/": "Error: the root is not restored as a whole",
        "/file/..": "Error: /file/.. ends in ..",
        "": "Error: an empty path",
    }.items():
        done = containers("restore", "box", path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(text), done.stderr
        assert done.stderr.count("\n") == 1
    assert containers.ok("restore", "box", "/etc", "/other", "/tmp", "/link").count("\n") == 3
    assert containers.ok("diff", "box") == ""


def test_the_root_of_a_container_that_runs_is_refused_as_any(containers: Containers) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    done = containers("restore", "box", "/")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: the root is not restored as a whole: restore what is in it\n"
    containers.ok("rm", "-f", "box")


def test_links_of_the_container_lead_nowhere(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    script = f"mkdir -p /new; ln -s {tmp_path} /new/out; ln -s /bin /new/bin; echo > /bin/x"
    containers.ok("run", "--name", "box", "busy:1", "sh", "-c", script)
    assert containers("restore", "box", "/new/out/secret").returncode == 1
    assert containers.ok("restore", "box", "/new/bin/x", "/new") == "/bin/x\n/new"
    assert (tmp_path / "secret").read_text() == "secret"
    assert containers.ok("diff", "box") == ""


def test_what_is_mounted_on_is_left_alone(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine").write_text("mine")
    containers.ok(
        "run", "-d", "--name", "box", "-v", f"{tmp_path}/data:/tmp/data", "busy:1", "sleep", "1000"
    )
    done = containers("restore", "box", "/tmp/data")
    assert done.returncode == 1
    assert "something is mounted on /tmp/data in the running container box" in done.stderr
    done = containers("restore", "box", "/tmp/data/mine")
    assert "is on a mount of container box" in done.stderr
    containers.ok("stop", "-t", "0", "box")
    containers.ok("restore", "box", "/tmp")
    assert (tmp_path / "data/mine").read_text() == "mine"


def test_what_is_beside_mounts_is_restored(containers: Containers, tmp_path: Path) -> None:
    """/etc always has mounts: its files that say who and where the container is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine").write_text("mine")
    volume = f"{tmp_path}/data:/etc/a/b/data"
    containers.ok("run", "-d", "--name", "box", "-v", volume, "busy:1", "sleep", "1000")
    script = "cd /etc; echo x > new; mkdir -p a/c/d a/b/e; echo y > a/b/data/own; rm passwd"
    containers.ok("exec", "box", "sh", "-c", script.replace("rm", "busybox rm"))
    beside = ["/etc/a/b/e", "/etc/a/c", "/etc/new", "/etc/passwd"]
    would = containers.ok("restore", "--dry-run", "box", "/etc").splitlines()
    assert would == ["A /etc/a/b/e", "A /etc/a/c", "A /etc/a/c/d", "A /etc/new", "D /etc/passwd"]
    assert containers.ok("restore", "box", "/etc").splitlines() == beside
    assert containers.ok("restore", "box", "/etc") == ""
    seen = containers.ok("exec", "box", "sh", "-c", "cat /etc/a/b/data/* /etc/passwd; ls /etc/a/b")
    assert seen.startswith("miney") and seen.endswith("\ndata")
    containers.ok("rm", "-f", "box")


@pytest.mark.parametrize("running", [True, False])
def test_what_was_renamed_is_restored_with_its_path(containers: Containers, running: bool) -> None:
    """At two paths with one st_ino it is a loop for find(1), and one file for cp(1)."""
    script = "mkdir /new; mv /tmp /new/tmp; mv /file /new/file; mv /etc/passwd /etc/moved"
    if running:
        containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
        containers.ok("exec", "box", "sh", "-c", script)
    else:
        containers.ok("run", "--name", "box", "busy:1", "sh", "-c", script)
    before = containers.ok("diff", "box")
    renamed = "Error: the container has renamed /tmp of the image to /new/tmp: restore /new/tmp in"
    for options in (["--dry-run"], []):
        done = containers("restore", *options, "box", "/tmp")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(renamed) and done.stderr.count("\n") == 1
    would = containers.ok("restore", "--dry-run", "box", "/tmp", "/new").splitlines()
    assert "D /tmp" in would and "A /new/tmp" in would
    assert containers.ok("diff", "box") == before
    done = containers("restore", "box", "/tmp", "/new/none", "/new")
    assert (done.returncode, done.stdout) == (1, "/tmp\n/new\n")
    assert done.stderr == "Error: /new is not in the image: restore /new instead of /new/none\n"
    if running:
        assert containers.ok("restore", "box", "/file", "/etc/passwd") == "/file\n/etc/passwd"
        containers.ok("exec", "box", "sh", "-c", "mkdir /new; mv /file /new/")
        assert containers.ok("restore", "box", "/file") == "/file"
        shown = containers.ok("exec", "box", "busybox", "stat", "-c", "%i", "/file", "/new/file")
        assert len(set(shown.split())) == 2
        containers.ok("stop", "-t", "0", "box")
        containers.ok("start", "box")
        stat = ("stat", "-c", "%i", "/file", "/new/file", "/etc/passwd", "/etc/moved")
        assert len(set(containers.ok("exec", "box", "busybox", *stat).split())) == 4
    containers.ok("rm", "-f", "box")
