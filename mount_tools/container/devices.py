"""Devices of the host that a container gets: `--device HOST[:CONTAINER[:rwm]]`.

Decided here and only here: how they are written, and how they get into the container's /dev:
as a device with the number, mode and owner of the host's.  A user namespace cannot make
devices; there the host's file is mounted.

Source: docker/cli `cli/command/container/opts.go` parseDevice; moby `oci/devices_linux.go`.
Differs from docker: no control group guards devices, so the rights are those of the file:
`r` or `w` alone are refused, `m` has no effect.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator

from layerstore.errors import InvalidArgument, StoreError, shown
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig
from unionfs.light_typing import NamedTuple

_RIGHTS = r"[rwm]{1,3}"


class Device(NamedTuple):
    """A device of the host, or a directory of some, at the path `target` in the container."""

    source: str
    target: str

    @property
    def fields(self) -> Object:
        """The JSON object that `device_of` reads; docker's names."""
        return {
            "PathOnHost": self.source,
            "PathInContainer": self.target,
            "CgroupPermissions": "rwm",
        }


class Node(NamedTuple):
    """One device to make: its path in the container, the host's file, and its status."""

    path: str
    source: str
    st: os.stat_result


def device_of(fields: Object) -> Device:
    """Return the device that `fields` describes."""
    config = RunConfig(fields)
    return Device(config.text("PathOnHost"), config.text("PathInContainer"))


def parse_device(text: str) -> Device:
    """Read `HOST[:CONTAINER[:rwm]]` or `HOST:rwm`; raises InvalidArgument."""
    source, *rest = text.split(":")
    target, rights = source, "rwm"
    if len(rest) == 1 and re.fullmatch(_RIGHTS, rest[0]):
        rights = rest[0]
    elif rest:
        target = rest[0]
        rights = rest[1] if len(rest) > 1 else rights
    if len(rest) > 2 or not source or not target:
        raise InvalidArgument(f"invalid device specification: {shown(text)}")
    if not re.fullmatch(_RIGHTS, rights) or len(set(rights)) != len(rights):
        raise InvalidArgument(f"bad mode specified: {shown(rights)}")
    if not {"r", "w"} <= set(rights):
        raise InvalidArgument(
            f"the device {shown(source)} cannot be limited to {rights}: no control group guards "
            "devices here; leave the mode out, or mind the mode of the host's file"
        )
    for path in (source, target):
        if not path.startswith("/") or "\0" in path:
            raise InvalidArgument(f"{shown(path)} is not an absolute path")
    target = posixpath.normpath("/" + target.lstrip("/"))
    if target == "/":
        raise InvalidArgument(f"invalid device specification: {shown(text)}")
    return Device(source, target)


def nodes(device: Device) -> Iterator[Node]:
    """Yield the devices to make; of a directory all that are in it.  Raises StoreError."""
    try:
        st = os.stat(device.source)
    except OSError as error:
        raise StoreError(
            f'error gathering device information while adding custom device "{device.source}": '
            f"{(error.strerror or '').lower()}"
        ) from None
    if _is_device(st):
        yield Node(device.target, device.source, st)
        return
    if not stat.S_ISDIR(st.st_mode):
        raise StoreError(
            f'error gathering device information while adding custom device "{device.source}": '
            "not a device node"
        )
    with os.scandir(device.source) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if _is_device(found):
                yield Node(posixpath.join(device.target, entry.name), entry.path, found)


def _is_device(st: os.stat_result) -> bool:
    return stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)
