"""Mounts of RUN: what they show, and that no trace of them is in a layer."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore import Store
from mount_tools.build.attach import Bind, Scratch, Secret, Stubs, Tmpfs
from tests.helpers.mounts import run
from tests.helpers.stages import run_stage, sh


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_text("given")
    (path / "out").symlink_to("/etc/hostname")
    return path


def test_a_bind_is_seen_and_leaves_no_trace(store: Store, source: Path) -> None:
    bind = Bind(str(source), "/", "/deep/er/mnt", read_only=True)
    ran = run_stage(store, [sh("cat /deep/er/mnt/file; echo >> /deep/er/mnt/file", bind)])
    assert ran.output.startswith(b"given")
    assert b"Read-only" in ran.output
    assert ran.broke is not None
    ran = run_stage(store, [sh("cat /deep/er/mnt/file", bind), sh("mkdir /deep")])
    assert ran.broke is None
    # The first step has no layer: its mount points are gone.
    assert [kept.diff_id is not None for kept in ran.kept] == [False, True]


def test_a_writable_bind_writes_to_its_source(store: Store, source: Path) -> None:
    run_stage(store, [sh("echo more > /c/more", Bind(str(source), ".", "/c"))])
    assert (source / "more").read_text() == "more\n"


def test_a_read_only_bind_is_so_with_the_mounts_in_it(store: Store, source: Path) -> None:
    (source / "sub").mkdir()
    run("mount", "-t", "tmpfs", "inside", source / "sub")
    try:
        bind = Bind(str(source), ".", "/c", read_only=True)
        ran = run_stage(store, [sh("ls -d /c/sub; echo x > /c/sub/x", bind)])
        assert ran.broke is not None and b"Read-only" in ran.output
        assert os.listdir(source / "sub") == []
    finally:
        run("umount", "-l", source / "sub")


@pytest.mark.parametrize("read_only", [True, False])
def test_devices_in_a_bind_cannot_be_opened(store: Store, source: Path, read_only: bool) -> None:
    """The context may be an archive, and a cache may come from an image."""
    os.mknod(source / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mkdir(source / "sub")
    run("mount", "-t", "tmpfs", "inside", source / "sub")
    os.mknod(source / "sub/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    try:
        bind = Bind(str(source), ".", "/c", read_only=read_only)
        ran = run_stage(store, [sh("for d in /c /c/sub; do head -c 1 $d/zero; done", bind)])
        assert ran.output.count(b"Permission denied") == 2, ran.output
    finally:
        run("umount", "-l", source / "sub")


def test_a_source_is_found_beneath_its_base_only(store: Store, source: Path) -> None:
    ran = run_stage(store, [sh("cat /x", Bind(str(source), "out", "/x"))])
    assert ran.broke is not None
    assert ran.broke.text == "the source out of the mount on /x does not exist"


def test_what_is_written_to_a_scratch_is_lost(store: Store, source: Path) -> None:
    scratch = Scratch(str(source), "", "/s")
    ran = run_stage(store, [sh("echo new > /s/new; cat /s/file /s/new", scratch)])
    assert ran.output == b"givennew\n", ran
    assert not (source / "new").exists()


def test_a_secret_is_in_memory_only(store: Store, tmp_path: Path) -> None:
    secret = Secret("/run/secrets/key", b"hush-hush", 0o440, 0, 10)
    ran = run_stage(store, [sh("cat /run/secrets/key; ls -ln /run/secrets/key", secret)])
    assert ran.output.startswith(b"hush-hush-r--r-----    1 0        10")
    assert ran.kept[0].diff_id is None
    for folder, _, files in os.walk(tmp_path / "store"):
        for name in files:
            if os.path.isfile(os.path.join(folder, name)):
                assert b"hush-hush" not in Path(folder, name).read_bytes()


def test_a_tmpfs_is_empty_and_bounded(store: Store) -> None:
    fill = "echo x > /t/x; cat /dev/zero > /t/full 2>/dev/null; ls -ln /t/full"
    ran = run_stage(store, [sh(fill, Tmpfs("/t", 1 << 16))])
    assert int(ran.output.split()[4]) < 1 << 16


def test_a_target_that_cannot_be_made_is_named(store: Store, source: Path) -> None:
    ran = run_stage(store, [sh("true", Bind(str(source), ".", "/etc/passwd/x"))])
    assert ran.broke is not None
    assert ran.broke.text == "cannot mount on /etc/passwd/x: Not a directory"


def test_stubs_are_removed_unless_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    os.utime(tmp_path / "there", ns=(10, 10))
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        stubs = Stubs(root)
        stubs.make("/there/a/b", folder=True)
        stubs.make("/there/file", folder=False)
        stubs.make("/kept", folder=True)
        stubs.make("/dev/pipes/x", folder=False)
        (tmp_path / "kept/used").touch()
        stubs.remove()
    finally:
        os.close(root)
    assert sorted(os.listdir(tmp_path)) == ["kept", "there"]
    assert os.listdir(tmp_path / "there") == []
    assert (tmp_path / "there").stat().st_mtime_ns == 10


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "outside"
    path.mkdir()
    yield path
    assert os.listdir(path) == []


def test_stubs_follow_links_beneath_the_root_only(tmp_path: Path, outside: Path) -> None:
    inside = tmp_path / "root"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    root = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    stubs = Stubs(root)
    try:
        stubs.make("/link/x", folder=True)
        assert (inside / str(outside).strip("/") / "x").is_dir()
        with pytest.raises(OSError, match=r"no \.\."):
            stubs.make("/../x", folder=True)
    finally:
        stubs.remove()
        os.close(root)
    assert os.listdir(inside) == ["link"]


def test_stubs_are_made_where_a_link_that_leads_nowhere_leads(tmp_path: Path) -> None:
    """As in Ubuntu: /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf."""
    (tmp_path / "real/etc").mkdir(parents=True)
    (tmp_path / "etc").symlink_to("real/etc")
    (tmp_path / "etc/resolv.conf").symlink_to("../../../run/stub.conf")
    (tmp_path / "loop").symlink_to("loop")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    stubs = Stubs(root)
    try:
        stubs.make("/etc/resolv.conf", folder=False)
        assert (tmp_path / "run/stub.conf").is_file()
        with pytest.raises(OSError, match="Too many levels"):
            stubs.make("/loop/x", folder=True)
        stubs.keep()
        assert (tmp_path / "run/stub.conf").is_file()
    finally:
        stubs.remove()
        os.close(root)
