"""Devices of the host: how they are written, and what is in a container's /dev."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.devices import Device, device_of, nodes, parse_device
from tests.helpers.containers import Containers
from tests.helpers.mounts import require_root


def test_forms() -> None:
    assert parse_device("/dev/fuse") == Device("/dev/fuse", "/dev/fuse")
    assert parse_device("/dev/fuse:/dev/x") == Device("/dev/fuse", "/dev/x")
    assert parse_device("/dev/fuse:rw") == Device("/dev/fuse", "/dev/fuse")
    assert parse_device("/dev/fuse:/dev/../x/:rwm") == Device("/dev/fuse", "/x")
    device = Device("/dev/fuse", "/dev/x")
    assert device_of(device.fields) == device


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "invalid device specification"),
        ("/a:/b:rwm:x", "invalid device specification"),
        ("/a:", "invalid device specification"),
        ("/a:/", "invalid device specification"),
        ("/a:/b:x", "^bad mode specified: x$"),
        ("/a:/b:rr", "^bad mode specified: rr$"),
        ("/a:/b:r", "cannot be limited to r: no control group guards"),
        ("/a:m", "cannot be limited to m"),
        ("a", "a is not an absolute path"),
        ("/a:b", "b is not an absolute path"),
        ("/a\0:/b", "is not an absolute path"),
    ],
)
def test_devices_that_cannot_be(text: str, complaint: str) -> None:
    with pytest.raises(StoreError, match=complaint):
        parse_device(text)


def test_what_is_at_a_path_of_the_host(tmp_path: Path) -> None:
    require_root()
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("null")
    (one,) = nodes(Device(str(tmp_path / "null"), "/dev/x"))
    assert (one.path, one.st.st_rdev) == ("/dev/x", os.makedev(1, 3))
    assert [node.path for node in nodes(Device(str(tmp_path), "/dev/d"))] == ["/dev/d/null"]
    for name, complaint in (("file", "not a device node"), ("none", "no such file or directory")):
        with pytest.raises(StoreError, match=f"custom device .*{name}.*: {complaint}"):
            list(nodes(Device(str(tmp_path / name), "/dev/x")))


def test_a_container_has_the_devices_it_was_given(containers: Containers, tmp_path: Path) -> None:
    os.mknod(tmp_path / "mine", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    os.chown(tmp_path / "mine", 5, 6)
    (tmp_path / "mine").chmod(0o640)
    words = ("--device", f"{tmp_path}/mine:/dev/deep/mine", "--device", "/dev/null")
    script = "busybox stat -c '%a %u %g %t %T' /dev/deep/mine; echo x > /dev/deep/mine"
    assert containers.ok("run", "--rm", *words, "busy:1", "sh", "-c", script) == "640 5 6 1 3"
    done = containers("run", "--rm", "--device", "/nowhere", "busy:1", "true")
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    assert 'custom device "/nowhere": no such file or directory' in done.stderr
    assert containers.ok("ps", "-aq") == ""
