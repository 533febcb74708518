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
from mount_tools.container.rights import Rights, Ulimit, capabilities, parse_ulimit
from unionfs.syscalls.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY

HOST_NETWORK = "host"
NO_NETWORK = "none"

_MODES = ("", "rw", "ro")
_NO_NEW_PRIVILEGES = "no-new-privileges"
# What a word adds to the flags of mount(2), and takes from them.
_TMPFS_FLAGS = {
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "exec": (0, MS_NOEXEC),
    "noexec": (MS_NOEXEC, 0),
    "suid": (0, MS_NOSUID),
    "nosuid": (MS_NOSUID, 0),
    "dev": (0, MS_NODEV),
    "nodev": (MS_NODEV, 0),
}
_MOUNT_WORDS = {
    "type": "type",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "tmpfs-size": "tmpfs-size",
    "tmpfs-mode": "tmpfs-mode",
}


class Volume(NamedTuple):
    """A directory or a file of the host, absolute, shown at `target` in the container."""

    source: str
    target: str
    read_only: bool = False

    @property
    def text(self) -> str:
        """The volume as `parse_volume` reads it."""
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"


class Tmpfs(NamedTuple):
    """An empty filesystem in memory at `target`, with options of mount(8)."""

    target: str
    options: str = ""

    def mount_options(self) -> tuple[int, bytes]:
        """Return the flags of mount(2), and the data for tmpfs(5)."""
        flags, data = MS_NOSUID | MS_NODEV | MS_NOEXEC, []
        for word in self.options.split(",") if self.options else ():
            if word in _TMPFS_FLAGS:
                on, off = _TMPFS_FLAGS[word]
                flags = flags & ~off | on
            else:
                data.append(word)
        return flags, ",".join(data).encode()


class HostConfig(NamedTuple):
    """What a container uses of the host, as given when it is created."""

    volumes: tuple[Volume, ...] = ()
    read_only: bool = False
    """Whether the container's root is mounted read-only."""
    tmpfs: tuple[Tmpfs, ...] = ()
    network: str = HOST_NETWORK
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    ulimits: tuple[Ulimit, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    """Lines for /etc/hosts, NAME:ADDRESS."""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    init: bool = True
    """Whether process 1 is an init of ours; if not, it is the command."""

    @property
    def fields(self) -> Object:
        """The JSON object that `host_config` reads; docker's names, without what is usual."""
        usual: Object = {
            "Tmpfs": {one.target: one.options for one in self.tmpfs},
            "NetworkMode": "" if self.network == HOST_NETWORK else self.network,
            "Privileged": self.privileged,
            "CapAdd": list(self.cap_add),
            "CapDrop": list(self.cap_drop),
            "SecurityOpt": [_NO_NEW_PRIVILEGES] if self.no_new_privileges else [],
            "Ulimits": [
                {"Name": one.name, "Soft": one.soft, "Hard": one.hard} for one in self.ulimits
            ],
            "ExtraHosts": list(self.extra_hosts),
            "Dns": list(self.dns),
            "DnsSearch": list(self.dns_search),
            "DnsOptions": list(self.dns_options),
        }
        return {
            "Binds": [volume.text for volume in self.volumes],
            "ReadonlyRootfs": self.read_only,
            **({} if self.init else {"Init": False}),
            **{name: value for name, value in usual.items() if value},
        }

    @property
    def rights(self) -> Rights:
        """What the container's processes may do."""
        found = capabilities(self.cap_add, self.cap_drop, privileged=self.privileged)
        return Rights(found, self.no_new_privileges, self.ulimits)

    def resolv_conf(self, of_host: str) -> str:
        """Return the container's /etc/resolv.conf: the host's, but for what is given."""
        given = {
            "nameserver": [f"nameserver {address}" for address in self.dns],
            "search": ["search " + " ".join(self.dns_search)] if self.dns_search else [],
            "options": ["options " + " ".join(self.dns_options)] if self.dns_options else [],
        }
        replaced = {word for word, lines in given.items() if lines}
        kept = [
            line
            for line in of_host.splitlines()
            if line.split(maxsplit=1)[:1] not in [[word] for word in replaced]
        ]
        return "\n".join([*kept, *(line for lines in given.values() for line in lines)]) + "\n"


def host_config(config: RunConfig) -> HostConfig:
    """Return what a container's configuration uses of the host; raises StoreError."""
    host = RunConfig(config.members("HostConfig"))
    ulimits = [RunConfig(one) for one in _objects(host.fields.get("Ulimits"))]
    return HostConfig(
        tuple(parse_volume(text) for text in host.words("Binds")),
        host.fields.get("ReadonlyRootfs") is True,
        tuple(Tmpfs(target, str(options)) for target, options in host.members("Tmpfs").items()),
        host.text("NetworkMode") or HOST_NETWORK,
        host.fields.get("Privileged") is True,
        tuple(host.words("CapAdd")),
        tuple(host.words("CapDrop")),
        _NO_NEW_PRIVILEGES in host.words("SecurityOpt"),
        tuple(
            parse_ulimit(f"{one.text('Name')}={one.fields.get('Soft')}:{one.fields.get('Hard')}")
            for one in ulimits
        ),
        tuple(host.words("ExtraHosts")),
        tuple(host.words("Dns")),
        tuple(host.words("DnsSearch")),
        tuple(host.words("DnsOptions")),
        host.fields.get("Init") is not False,
    )


def _objects(value: JSON) -> list[Object]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def parse_tmpfs(text: str) -> Tmpfs:
    """Read `TARGET[:OPTIONS]`; raises StoreError."""
    target, _, options = text.partition(":")
    return Tmpfs(checked_target(target, text), options)


def parse_mount(text: str) -> Volume | Tmpfs:
    """Read `type=bind,source=…,target=…[,readonly]` or `type=tmpfs,target=…`.

    Raises StoreError, in docker's words where it has some.
    """
    given: dict[str, str] = {"type": "volume"}
    for word in text.split(","):
        name, equals, value = word.partition("=")
        name = _MOUNT_WORDS.get(name.lower(), "")
        if not name:
            raise StoreError(f'invalid argument "{text}" for "--mount" flag: unexpected key {word}')
        if not equals and name != "readonly":
            raise StoreError(
                f'invalid argument "{text}" for "--mount" flag: invalid field \'{word}\' must be a '
                "key=value pair"
            )
        given[name] = value if equals else "true"
    kind, source = given["type"], given.get("source", "")
    if "target" not in given:
        raise StoreError(f'invalid argument "{text}" for "--mount" flag: target is required')
    target = checked_target(given["target"], text)
    read_only = given.get("readonly", "false").lower() in ("true", "1")
    if kind == "tmpfs":
        words = [
            f"{word}={given[name]}"
            for name, word in (("tmpfs-size", "size"), ("tmpfs-mode", "mode"))
            if name in given
        ]
        return Tmpfs(target, ",".join([*(["ro"] if read_only else []), *words]))
    if kind != "bind":
        raise StoreError(
            f"mount type {kind}: there are mounts of the types bind and tmpfs only; a volume is "
            "a directory of yours: type=bind,source=DIRECTORY"
        )
    if not source:
        raise StoreError(f'invalid argument "{text}" for "--mount" flag: source is required')
    return _volume(source, target, text, read_only=read_only)


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
    target = checked_target(target, text)
    if not source.startswith(("/", ".", "~")):
        raise StoreError(
            f"invalid volume specification: '{text}': there are no volumes with names here; for "
            f"the directory {source} write ./{source}"
        )
    return _volume(source, target, text, read_only=mode == "ro")


def checked_target(target: str, text: str) -> str:
    """Return a mount point in its shortest form; raises StoreError in docker's words."""
    if not target.startswith("/"):
        raise StoreError(
            f"invalid volume specification: '{text}': invalid mount config for type \"bind\": "
            f"invalid mount path: '{target}' mount path must be absolute"
        )
    target = posixpath.normpath(target)
    if target.strip("/") == "":
        raise StoreError(
            f"invalid volume specification: '{text}': invalid specification: destination can't "
            "be '/'"
        )
    return target


def _volume(source: str, target: str, text: str, *, read_only: bool) -> Volume:
    source = os.path.abspath(os.path.expanduser(source))
    if ":" in source:
        raise StoreError(
            f"invalid volume specification: '{text}': {source} has a colon in its name, which "
            "separates the two paths; bind it to a directory without one first"
        )
    return Volume(source, target, read_only)
