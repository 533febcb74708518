"""What a container's processes may do: capabilities, limits, no_new_privileges, system calls.

Decided here and only here: which capabilities there are, docker's default ones less mknod
(there a cgroup forbids to open the devices made, and here nothing would), and how
`--cap-add`, `--cap-drop`, `--privileged`, `--security-opt` and `--ulimit` change that.

Source: capabilities(7), linux/capability.h; moby `oci/caps/`; getrlimit(2); docker/go-units
`ulimit.go`.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Collection, Iterable

from layerstore.errors import StoreError, shown
from unionfs.light_typing import NamedTuple

# In the order of their numbers.
_NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
CAPABILITIES = {name: number for number, name in enumerate(_NAMES)}
HIGHEST = 63
MKNOD = CAPABILITIES["MKNOD"]
KILL = CAPABILITIES["KILL"]
SYS_PTRACE = CAPABILITIES["SYS_PTRACE"]
CHECKPOINT_RESTORE = CAPABILITIES["CHECKPOINT_RESTORE"]
UNCONFINED = "unconfined"
_NO_NEW_PRIVILEGES = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")
_ALL = "ALL"
_EVERY = frozenset(range(HIGHEST + 1))

DEFAULT = frozenset(
    CAPABILITIES[name]
    for name in (
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SYS_CHROOT",
        "AUDIT_WRITE",
        "SETFCAP",
    )
)

_LIMITS = {
    name: getattr(resource, f"RLIMIT_{name.upper()}")
    for name in [
        "core",
        "cpu",
        "data",
        "fsize",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
}
_ULIMIT = r"(?P<name>[a-z]+)=(?P<soft>-1|[0-9]{1,18})(?::(?P<hard>-1|[0-9]{1,18}))?"


class Ulimit(NamedTuple):
    """A limit of setrlimit(2), by docker's name; -1 means that there is no limit."""

    name: str
    soft: int
    hard: int

    def set(self) -> None:
        """Set it for this process.  Raises StoreError."""
        pair = tuple(resource.RLIM_INFINITY if one == -1 else one for one in self[1:])
        try:
            resource.setrlimit(_LIMITS[self.name], (pair[0], pair[1]))
        except (OSError, ValueError) as error:
            raise StoreError(f"--ulimit {self.name}={self.soft}:{self.hard}: {error}") from None


class Rights(NamedTuple):
    """What the processes of a container may do.

    `capabilities` are numbers; `seccomp` is the profile for `seccomp_profile.filter_of`,
    UNCONFINED for none, or "" for the machine's own (`default_profile`).
    """

    capabilities: frozenset[int] = DEFAULT
    no_new_privileges: bool = False
    ulimits: tuple[Ulimit, ...] = ()
    seccomp: str = ""


USUAL = Rights()


def parse_ulimit(text: str) -> Ulimit:
    """Read `NAME=SOFT[:HARD]`; raises StoreError."""
    found = re.fullmatch(_ULIMIT, text)
    if found is None or found["name"] not in _LIMITS:
        raise StoreError(
            f"invalid ulimit: {shown(text)}: write NAME=SOFT[:HARD], with one of "
            f"{', '.join(_LIMITS)}"
        )
    soft = int(found["soft"])
    hard = int(found["hard"] or soft)
    if hard != -1 and (soft == -1 or soft > hard):
        raise StoreError(f"ulimit soft limit must be less than or equal to hard limit: {text}")
    return Ulimit(found["name"], soft, hard)


def security_options(options: Iterable[str]) -> tuple[str, bool]:
    """Read the values of `--security-opt`; return `seccomp` and `no_new_privileges` of Rights.

    Raises StoreError.
    """
    profile, no_new_privileges = "", False
    for option in options:
        name, _, value = option.partition("=")
        if option in _NO_NEW_PRIVILEGES:
            no_new_privileges = True
        elif option == f"seccomp={UNCONFINED}":
            profile = UNCONFINED
        elif name == "seccomp" and value:
            from mount_tools.container.seccomp_profile import (
                read_profile,  # few containers name one
            )

            profile = read_profile(value)
        else:
            raise StoreError(
                f"invalid --security-opt: {option}: there are no-new-privileges, seccomp=FILE and "
                f"seccomp={UNCONFINED}"
            )
    return profile, no_new_privileges


def capability(text: str) -> str:
    """Return the name of a capability in docker's form, "CAP_MKNOD" or "ALL"; raises StoreError."""
    name = text.upper().removeprefix("CAP_")
    if name == _ALL:
        return name
    if name not in CAPABILITIES:
        raise StoreError(f'invalid capability: "{shown(text)}": capabilities(7) lists them')
    return f"CAP_{name}"


def capabilities(
    added: Iterable[str], dropped: Iterable[str], *, privileged: bool
) -> frozenset[int]:
    """Return the numbers of the capabilities that a container has; raises StoreError."""
    add, drop = ([capability(text) for text in texts] for texts in (added, dropped))
    if privileged:
        return _EVERY
    found = set(DEFAULT)
    if _ALL in add:
        found = set(_EVERY)
    if _ALL in drop:
        found = set()
    found -= {_number(name) for name in drop if name != _ALL}
    found |= {_number(name) for name in add if name != _ALL}
    return frozenset(found)


def names_of(numbers: Collection[int]) -> frozenset[str]:
    """Return the names of capabilities, as "CAP_MKNOD"."""
    return frozenset(f"CAP_{name}" for name, number in CAPABILITIES.items() if number in numbers)


def _number(name: str) -> int:
    return CAPABILITIES[name.removeprefix("CAP_")]
