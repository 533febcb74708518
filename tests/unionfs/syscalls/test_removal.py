"""Removing trees beneath an open directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.mounts import require_root
from unionfs.syscalls.removal import open_own_dir, remove_tree


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    (tmp_path / "tree/in").mkdir(parents=True)
    (tmp_path / "tree/in/link").symlink_to(tmp_path / "kept")
    top = os.open(tmp_path, os.O_RDONLY)
    try:
        remove_tree(top, b"tree")
        remove_tree(top, b"absent")
    finally:
        os.close(top)
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]


def test_parts_that_another_process_removes_meanwhile_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/deep", "b/deep", "c"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "file").write_text("x")
    unlink, rmdir, opened = os.unlink, os.rmdir, os.open

    def late(action: Callable[..., Any]) -> Callable[..., Any]:
        def act(name: bytes, *args: Any, **keywords: Any) -> Any:
            if name in (b"file", b"deep"):  # it is gone before our own call is made
                path = os.readlink(f"/proc/self/fd/{keywords['dir_fd']}")
                if action is opened:
                    shutil.rmtree(os.path.join(path.encode(), name))
                else:
                    action(name, *args, **keywords)
            return action(name, *args, **keywords)

        return act

    for name, action in (("unlink", unlink), ("rmdir", rmdir), ("open", opened)):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, late(action))
            remove_tree(None, os.fsencode(tmp_path / "tree"))
        assert os.listdir(tmp_path) == []
        (tmp_path / "tree/b/deep").mkdir(parents=True)
        (tmp_path / "tree/b/deep/file").write_text("x")
    remove_tree(None, os.fsencode(tmp_path / "tree"))


def test_few_descriptors_do_for_any_depth(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):
        os.mkdir(b"d", dir_fd=at)
        below = open_own_dir(b"d", at)
        os.close(at)
        at = below
    os.close(at)
    most, opened = 0, os.open

    def counted(*args: object, **keywords: object) -> int:
        nonlocal most
        fd = opened(*args, **keywords)  # type: ignore[arg-type]
        most = max(most, len(os.listdir("/proc/self/fd")))
        return fd

    before = len(os.listdir("/proc/self/fd"))
    os.open = counted
    try:
        remove_tree(None, os.fsencode(tmp_path / "d"))
    finally:
        os.open = opened
    assert most - before < 80
    assert os.listdir(tmp_path) == []


def test_what_chattr_protects_is_removed_only_on_request(tmp_path: Path) -> None:
    require_root()
    (tmp_path / "tree/immutable/in").mkdir(parents=True)
    for name in ("file", "immutable/file", "immutable/in/file", "log"):
        (tmp_path / "tree" / name).write_text("x")
    marked = {"+i": ("file", "immutable/file", "immutable/in", "immutable", ""), "+a": ("log",)}
    for mark, names in marked.items():
        for name in names:
            done = subprocess.run(["chattr", mark, tmp_path / "tree" / name], capture_output=True)
            if done.returncode:
                pytest.skip(done.stderr.decode())
    try:
        with pytest.raises(PermissionError):
            remove_tree(None, os.fsencode(tmp_path / "tree"))
    finally:
        remove_tree(None, os.fsencode(tmp_path / "tree"), protected=True)
    assert os.listdir(tmp_path) == []
