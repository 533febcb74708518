"""The parts of the host that a container sees: docker's HostConfig, and its volumes.

Decided here and only here: how a volume is written, `SOURCE:TARGET[:ro|rw]`, and which are
accepted.  `-v`, the store and `inspect` all read it here.

Source: docker/cli `docs/reference/run.md` "VOLUME"; moby `volume/mounts/linux_parser.go`.
Differs from docker: every volume is a directory or a file of the host, by its path.
"""

from __future__ import annotations

import os
import posixpath
from typing import NamedTuple

from layerstore.errors import StoreError
from layerstore.oci.json_values import JSON, Object
from layerstore.oci.run_config import RunConfig

_MODES = ("", "rw", "ro")


class Volume(NamedTuple):
    """A directory or a file of the host, absolute, shown at `target` in the container."""

    source: str
    target: str
    read_only: bool = False

    @property
    def text(self) -> str:
        """The volume as `parse_volume` reads it."""
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"


class HostConfig(NamedTuple):
    """What a container uses of the host, as given when it is created."""

    volumes: tuple[Volume, ...] = ()
    read_only: bool = False
    """Whether the container's root is mounted read-only."""

    @property
    def fields(self) -> Object:
        """The JSON object that `host_config` reads."""
        binds: list[JSON] = [volume.text for volume in self.volumes]
        return {"Binds": binds, "ReadonlyRootfs": self.read_only}


def host_config(config: RunConfig) -> HostConfig:
    """Return what a container's configuration uses of the host; raises StoreError."""
    host = RunConfig(config.members("HostConfig"))
    volumes = tuple(parse_volume(text) for text in host.words("Binds"))
    return HostConfig(volumes, host.fields.get("ReadonlyRootfs") is True)


def parse_volume(text: str) -> Volume:
    """Read `SOURCE:TARGET[:ro|rw]`; a relative SOURCE is one of the working directory.

    Raises StoreError in docker's words.
    """
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not target:
        raise StoreError(
            f"invalid volume specification: '{text}': a bind mount is SOURCE:TARGET[:ro]; "
            "there are no volumes without a source here"
        )
    if mode not in _MODES:
        raise StoreError(f"invalid mode: {mode}")
    if not target.startswith("/"):
        raise StoreError(
            f"invalid volume specification: '{text}': invalid mount config for type \"bind\": "
            f"invalid mount path: '{target}' mount path must be absolute"
        )
    if not source.startswith(("/", ".", "~")):
        raise StoreError(
            f"invalid volume specification: '{text}': there are no volumes with names here; for "
            f"the directory {source} write ./{source}"
        )
    source, target = os.path.abspath(os.path.expanduser(source)), posixpath.normpath(target)
    if target.strip("/") == "":
        raise StoreError(
            f"invalid volume specification: '{text}': invalid specification: destination can't "
            "be '/'"
        )
    if ":" in source:
        raise StoreError(
            f"invalid volume specification: '{text}': {source} has a colon in its name, which "
            "separates the two paths; bind it to a directory without one first"
        )
    return Volume(source, target, mode == "ro")
