"""An idmapped mount, as container engines make them of the layers of a container.

Source: mount_setattr(2) "ID-mapped mounts".
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.mounts import run
from unionfs.syscalls.mount_tree import clone_mount, mount_clone

_MOUNT_SETATTR = 442
_AT_EMPTY_PATH = 0x1000
_MOUNT_ATTR_IDMAP = 0x100000


@contextmanager
def idmapped(source: Path, target: Path, stored: int, shown: int, count: int) -> Iterator[None]:
    """Mount `source` on `target` with the `count` ids from `stored` on shown as those from `shown`.

    Skips the test where the kernel or the filesystem cannot.
    """
    with subprocess.Popen(
        ["unshare", "-U", "sh", "-c", "echo; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text(f"{stored} {shown} {count}")
        namespace = os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY)
        process.communicate()
    root = os.open(source, os.O_PATH)
    try:
        tree = clone_mount(root)
        try:
            _map_ids(tree, namespace)
            mount_clone(tree, os.fsencode(target))
        finally:
            os.close(tree)
    finally:
        os.close(root)
        os.close(namespace)
    try:
        yield
    finally:
        run("umount", target)


def _map_ids(tree: int, namespace: int) -> None:
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, namespace)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, len(attributes)) != 0:
        pytest.skip(f"no idmapped mount here: {os.strerror(ctypes.get_errno())}")
