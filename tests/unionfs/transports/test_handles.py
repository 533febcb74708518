"""File handles: none can be made of a file on the union, as with overlayfs without nfs_export."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from tests.helpers.layers import Layers
from tests.helpers.mounts import kernel_overlay, mounted

_name_to_handle_at = ctypes.CDLL(None, use_errno=True).name_to_handle_at


def error_of_handle(path: Path) -> int:
    """Return the errno of name_to_handle_at(2) on `path`, 0 if it makes a handle."""
    handle = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136)
    mount_id = ctypes.c_int()
    done = _name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount_id), 0)
    return 0 if done == 0 else ctypes.get_errno()


def test_a_file_has_no_handle(tmp_path: Path) -> None:
    """The kernel would ask for a nodeid that it forgot, and an NFS client would get ESTALE."""
    layers = Layers(tmp_path, {"f": "x"})
    assert error_of_handle(layers.lowers[0] / "f") == 0
    with kernel_overlay(layers.lowers, layers.upper, layers.work) as root:
        assert error_of_handle(root / "f") == errno.EOPNOTSUPP
    with mounted(layers.lowers, options=["transport=dev_fuse"]) as root:
        assert error_of_handle(root / "f") == errno.EOPNOTSUPP
