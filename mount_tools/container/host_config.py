"""What a container uses of the host and of the store: docker's HostConfig.

Decided here and only here: how it is recorded, and which volumes a container gets.
`mount_words` has how each mount is written.

Source: moby `api/types/container/host_config.go`, `daemon/volumes.go`, `daemon/create_unix.go`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from layerstore.errors import Conflict, StoreError, shown
from layerstore.oci.json_values import JSON, Object
from layerstore.oci.run_config import RunConfig
from layerstore.volumes import VolumeUse, anonymous_name
from mount_tools.container.devices import Device, device_of
from mount_tools.container.limits import Limits
from mount_tools.container.mount_words import (
    StoreVolume,
    Tmpfs,
    Volume,
    checked_target,
    parse_volume,
)
from mount_tools.container.rights import (
    CHECKPOINT_RESTORE,
    SYS_PTRACE,
    UNCONFINED,
    Rights,
    Ulimit,
    capabilities,
    parse_ulimit,
)
from unionfs.light_typing import NamedTuple

_HOSTNAME = r"[A-Za-z0-9_.-]{1,64}"
HOST_NETWORK = "host"
NO_NETWORK = "none"

_LIMITS = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")
_NO_NEW_PRIVILEGES = "no-new-privileges"
_SECCOMP = "seccomp="


def checked_hostname(name: str) -> str:
    """Return a host name that the kernel and /etc/hosts take; raises StoreError for another."""
    if not re.fullmatch(_HOSTNAME, name):
        raise StoreError(f"invalid hostname {name!r}: give another with --hostname")
    return name


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
    named: tuple[StoreVolume, ...] = ()
    """Volumes with names, of `-v`."""
    mounts: tuple[StoreVolume, ...] = ()
    """Volumes of `--mount`."""
    volumes_from: tuple[str, ...] = ()
    """Containers whose volumes and binds are shown too, NAME[:ro|rw]."""
    limits: Limits = Limits()
    devices: tuple[Device, ...] = ()
    seccomp: str = ""
    """The seccomp profile, as JSON, UNCONFINED for none, or "" for the machine's own."""
    ports: Object = {}  # noqa: RUF012 - a NamedTuple's default, which nothing changes
    """The ports that it publishes, as docker's PortBindings."""

    @property
    def fields(self) -> Object:
        """The JSON object that `host_config` reads; docker's names, without what is usual."""
        usual: Object = {
            "Tmpfs": {one.target: one.options for one in self.tmpfs},
            "NetworkMode": "" if self.network == HOST_NETWORK else self.network,
            "Privileged": self.privileged,
            "CapAdd": list(self.cap_add),
            "CapDrop": list(self.cap_drop),
            "SecurityOpt": [
                *([_NO_NEW_PRIVILEGES] if self.no_new_privileges else []),
                *([_SECCOMP + self.seccomp] if self.seccomp else []),
            ],
            "Ulimits": [
                {"Name": one.name, "Soft": one.soft, "Hard": one.hard} for one in self.ulimits
            ],
            "ExtraHosts": list(self.extra_hosts),
            "Dns": list(self.dns),
            "DnsSearch": list(self.dns_search),
            "DnsOptions": list(self.dns_options),
            "Mounts": [_mount_fields(one) for one in self.mounts],
            "VolumesFrom": list(self.volumes_from),
            "Memory": self.limits.memory,
            "MemorySwap": self.limits.memory_swap,
            "NanoCpus": self.limits.cpus,
            "PidsLimit": self.limits.pids,
            "Devices": [one.fields for one in self.devices],
            "PortBindings": self.ports,
        }
        return {
            "Binds": [volume.text for volume in (*self.volumes, *self.named)],
            "ReadonlyRootfs": self.read_only,
            **({} if self.init else {"Init": False}),
            **{name: value for name, value in usual.items() if value},
        }

    @property
    def targets(self) -> list[str]:
        """The paths in the container that something is mounted on."""
        return [
            *(one.target for one in self.volumes),
            *(one.target for one in self.tmpfs),
            *(one.target for one in (*self.named, *self.mounts)),
        ]

    def refuse_missing(self) -> None:
        """Raise StoreError if what is to be bound of the host does not exist."""
        for volume in self.volumes:
            if not os.path.exists(volume.source):
                raise StoreError(f"{volume.source} does not exist: create it, or correct the path")

    @property
    def rights(self) -> Rights:
        """What the container's processes may do."""
        found = capabilities(self.cap_add, self.cap_drop, privileged=self.privileged)
        seccomp = UNCONFINED if self.privileged else self.seccomp
        return Rights(found, self.no_new_privileges, self.ulimits, seccomp)

    @property
    def may_trace(self) -> bool:
        """Whether the container's processes may trace ours; a privileged one may do anything."""
        return SYS_PTRACE in self.rights.capabilities and not self.privileged

    @property
    def may_map(self) -> bool:
        """Whether they may also open the files that ours have mapped."""
        return self.may_trace and CHECKPOINT_RESTORE in self.rights.capabilities

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
    binds = [parse_volume(text) for text in host.words("Binds")]
    options = host.words("SecurityOpt")
    return HostConfig(
        tuple(one for one in binds if isinstance(one, Volume)),
        host.fields.get("ReadonlyRootfs") is True,
        tuple(Tmpfs(target, str(options)) for target, options in host.members("Tmpfs").items()),
        host.text("NetworkMode") or HOST_NETWORK,
        host.fields.get("Privileged") is True,
        tuple(host.words("CapAdd")),
        tuple(host.words("CapDrop")),
        _NO_NEW_PRIVILEGES in options,
        tuple(
            parse_ulimit(f"{one.text('Name')}={one.fields.get('Soft')}:{one.fields.get('Hard')}")
            for one in ulimits
        ),
        tuple(host.words("ExtraHosts")),
        tuple(host.words("Dns")),
        tuple(host.words("DnsSearch")),
        tuple(host.words("DnsOptions")),
        host.fields.get("Init") is not False,
        tuple(one for one in binds if isinstance(one, StoreVolume)),
        tuple(_store_volume(one) for one in _objects(host.fields.get("Mounts"))),
        tuple(host.words("VolumesFrom")),
        Limits(*(_number(host, name) for name in _LIMITS)),
        tuple(device_of(one) for one in _objects(host.fields.get("Devices"))),
        next((one[len(_SECCOMP) :] for one in options if one.startswith(_SECCOMP)), ""),
        host.members("PortBindings"),
    )


def _number(host: RunConfig, name: str) -> int:
    value = host.fields.get(name)
    return value if isinstance(value, int) else 0


def _objects(value: JSON) -> list[Object]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _mount_fields(one: StoreVolume) -> Object:
    """Return a volume as docker records a mount of `--mount`."""
    fields: Object = {"Type": "volume", "Target": one.target}
    if one.name:
        fields["Source"] = one.name
    if one.read_only:
        fields["ReadOnly"] = True
    if not one.copy:
        fields["VolumeOptions"] = {"NoCopy": True}
    return fields


def _store_volume(fields: Object) -> StoreVolume:
    mount = RunConfig(fields)
    return StoreVolume(
        mount.text("Source"),
        mount.text("Target"),
        fields.get("ReadOnly") is True,
        mount.members("VolumeOptions").get("NoCopy") is not True,
    )


def volume_uses(config: RunConfig, mounted: Iterable[str] = ()) -> list[VolumeUse]:
    """Return the volumes of the store that a new container of `config` shows.

    A path that the image declares as a volume gets one without a name, unless something else
    is mounted there, as on the paths `mounted`.  Raises StoreError, Conflict if two mounts
    have one target.
    """
    host = host_config(config)
    uses = [
        VolumeUse(
            one.name or anonymous_name(),
            one.target,
            read_only=one.read_only,
            named=bool(one.name),
            filled=not one.copy,
        )
        for one in (*host.named, *host.mounts)
    ]
    taken: set[str] = set()
    for target in host.targets:
        if target in taken:
            raise Conflict(f"Duplicate mount point: {target}")
        taken.add(target)
    taken.update(mounted)
    for path in config.volumes:
        target = checked_target("/" + path, path, "volume")
        if target not in taken:
            taken.add(target)
            uses.append(VolumeUse(anonymous_name(), target, named=False))
    for use in uses:
        if not _is_utf8(use.target):
            raise StoreError(f"{shown(use.target)}: the mount point of a volume must be UTF-8")
    return uses


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
