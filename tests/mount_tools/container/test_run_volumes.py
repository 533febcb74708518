"""Containers that run with volumes: what is shown, who keeps it, and who removes it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.operations.rootfs import import_image
from tests.helpers.containers import Containers, make_rootfs
from tests.helpers.mounts import require_root, run


@pytest.fixture
def declaring(containers: Containers, rootfs: Path) -> str:
    """An image that declares /tmp, which it has, and /new/deep, which it lacks, as volumes."""
    with Store.open(containers.store, sync=False) as store:
        config = {"Cmd": ["sh"], "Volumes": {"/tmp": {}, "/new/deep": {}}}
        import_image(store, rootfs, "declaring:1", config=config)  # type: ignore[arg-type]
    return "declaring:1"


def test_a_named_volume_outlives_its_containers(containers: Containers) -> None:
    script = "cat /etc/passwd >/dev/null && echo kept > /etc/note"
    containers.ok("run", "--rm", "-v", "data:/etc", "busy:1", "sh", "-c", script)
    assert containers.ok("volume", "ls", "-q") == "data"
    both = containers.ok("run", "--rm", "-v", "data:/d:ro", "busy:1", "cat", "/d/note", "/d/group")
    assert both.splitlines()[:2] == ["kept", "root:x:0:"]
    done = containers("run", "--rm", "-v", "data:/d:ro", "busy:1", "touch", "/d/x")
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    words = ("--mount", "type=volume,src=data,dst=/d")
    assert containers.ok("run", "--rm", *words, "busy:1", "cat", "/d/note") == "kept"
    assert containers.ok("volume", "rm", "data") == "data"
    containers.ok("check")


def test_a_declared_volume_is_made_shown_and_removed(
    containers: Containers, declaring: str
) -> None:
    script = (
        "echo x > /tmp/a; echo y > /new/deep/b; "
        "while read a b c; do echo $b; done < /proc/self/mounts"
    )
    shown = containers.ok("run", "--name", "box", declaring, "sh", "-c", script).split()
    assert {"/tmp", "/new/deep"} <= set(shown)
    mounts = json.loads(containers.ok("inspect", "box"))[0]["Mounts"]
    assert sorted(mount["Destination"] for mount in mounts) == ["/new/deep", "/tmp"]
    assert {mount["Type"] for mount in mounts} == {"volume"}
    assert containers.ok("diff", "box") == ""
    containers.ok("rm", "-v", "box")
    containers.ok("run", "--rm", declaring, "sh", "-c", "echo x > /tmp/a")
    assert containers.ok("volume", "ls", "-q") == ""
    named = containers.ok("run", "--rm", "-v", "mine:/tmp", declaring, "ls", "/new")
    assert (named, containers.ok("volume", "ls", "-q")) == ("deep", "mine")


def test_devices_that_an_image_brings_into_a_volume_cannot_be_opened(
    containers: Containers, tmp_path: Path
) -> None:
    """Else an image could have the machine's disks in a directory that it declares a volume."""
    require_root()
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    make_rootfs(rootfs)
    (rootfs / "dev2").mkdir()
    os.mknod(rootfs / "dev2/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with Store.open(containers.store, sync=False) as store:
        config = {"Cmd": ["sh"], "Volumes": {"/dev2": {}}}
        import_image(store, rootfs, "devices:1", config=config)  # type: ignore[arg-type]
    read = ("sh", "-c", "test -c $0 && ! head -c 1 $0", "/dev2/zero")
    for words in ((), ("-v", "data:/dev2"), ("-v", "data:/dev2:ro"), ("--cap-add", "MKNOD")):
        done = containers("run", "--rm", *words, "devices:1", *read)
        assert done.returncode == 0 and "Permission denied" in done.stderr, done


def test_mounts_beneath_others_are_not_hidden(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host")
    done = containers.ok(
        "run", "--rm",
        "-v", f"{tmp_path}/file:/a/b/c", "--tmpfs", "/a/b", "-v", "outer:/a", "-v", "etc:/etc",
        "busy:1", "sh", "-c", "cat /a/b/c; echo; cat /etc/hostname",
    )  # fmt: skip
    assert done.splitlines()[0] == "of the host" and len(done.splitlines()) == 2


def test_a_read_only_bind_is_so_with_the_mounts_in_it(
    containers: Containers, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "later").mkdir()
    require_root()
    run("mount", "--bind", source, source)
    run("mount", "--make-shared", source)
    try:
        run("mount", "-t", "tmpfs", "inside", source / "sub")
        name = ("--name", "box", "-v", f"{source}:/x:ro", "-v", f"{source}:/y")
        containers.ok("run", "-d", *name, "busy:1", "sleep", "100")
        write = "echo 1 > /x/sub/a; echo 2 > /x/b; echo 3 > /y/sub/c"
        done = containers("exec", "box", "sh", "-c", write)
        assert done.stderr.count("Read-only file system") == 2
        assert sorted(path.name for path in source.rglob("?")) == ["c"]
        run("mount", "-t", "tmpfs", "later", source / "later")
        containers("exec", "box", "sh", "-c", "echo 1 > /x/later/a")
        assert os.listdir(source / "later") == []
        containers.ok("rm", "-f", "box")
    finally:
        run("umount", "-lR", source)


def test_a_container_that_cannot_be_leaves_nothing(containers: Containers) -> None:
    done = containers("run", "--name", "box", "-v", "/file", "-v", "named:/tmp", "busy:1", "true")
    assert done.returncode == 125
    assert done.stderr == ("Error: cannot mount volume over existing file, file exists /file\n")
    assert containers.ok("ps", "-aq") == ""
    assert containers.ok("volume", "ls", "-q") == "named"
    done = containers("create", "-v", "one:/x", "-v", "two:/x", "busy:1")
    assert "Duplicate mount point: /x" in done.stderr
    assert containers.ok("volume", "ls", "-q") == "named"


def test_a_volume_that_lost_its_directory_is_told_and_repaired(containers: Containers) -> None:
    containers.ok("create", "--name", "box", "-v", "data:/d", "busy:1", "ls", "/d")
    (containers.store / "volumes/data/_data").rmdir()
    done = containers("start", "-a", "box")
    assert "the volume data has lost its directory; `pyunion check --repair` makes" in done.stderr
    assert containers("check").returncode == 1
    containers.ok("check", "--repair")
    assert containers.ok("start", "-a", "box") == ""


def test_what_a_container_made_immutable_is_removed(containers: Containers) -> None:
    """A removal that failed would be tried again, and fail, whenever the store is opened."""
    script = "mkdir /d/sub /sub; echo x > /d/sub/file; echo x > /sub/file"
    containers.ok("run", "--name", "box", "-v", "data:/d", "busy:1", "sh", "-c", script)
    upper = next((containers.store / "containers").iterdir()) / "upper"
    for top in (upper, containers.store / "volumes/data/_data"):
        for name, mark in (("sub/file", "+i"), ("sub", "+i"), ("", "+a")):
            done = subprocess.run(["chattr", mark, top / name], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(done.stderr)
    containers.ok("rm", "box")
    containers.ok("volume", "rm", "data")
    containers.ok("check")
