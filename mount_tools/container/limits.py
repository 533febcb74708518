"""What a container may use at most: memory, processors and processes.

Decided here and only here: how the flags are written, docker's checks of them, and which
files of a control group have them.  0 is no limit, as in docker's HostConfig.

Source: docker/cli `opts/opts.go`; docker/go-units `size.go` RAMInBytes; moby
`daemon/daemon_unix.go` verifyPlatformContainerResources; runc
`libcontainer/cgroups/fs2`; cgroup-v2.rst.
"""

from __future__ import annotations

import os
import re

from layerstore.errors import InvalidArgument, StoreError, shown
from unionfs.light_typing import NamedTuple

_SIZE = r"([0-9]+)(?:\.([0-9]+))? ?([kmgtp])?i?b?"
_DECIMAL = r"([0-9]{0,9})(?:\.([0-9]{0,99}))?"
_UNITS = "kmgtp"
_LEAST_MEMORY = 6 << 20  # bytes
_LARGEST = 2**63 - 1
_DIGITS = 9
_NANO = 1_000_000_000
_PERIOD = 100_000  # microseconds
UNLIMITED = -1


class Limits(NamedTuple):
    """`memory` and `memory_swap`, which is both together, are in bytes; `cpus` is in 1e-9 CPUs."""

    memory: int = 0
    memory_swap: int = 0
    cpus: int = 0
    pids: int = 0

    @property
    def controllers(self) -> list[str]:
        """The controllers of cgroup v2 that these limits need."""
        needed = {"memory": self.memory, "cpu": self.cpus, "pids": self.pids}
        return [name for name, limit in needed.items() if limit > 0]

    @property
    def files(self) -> dict[str, str]:
        """What is written to a control group, by the names of its files."""
        values = {}
        if self.memory > 0:
            values["memory.max"] = str(self.memory)
            values["memory.swap.max"] = self._swap
        if self.cpus > 0:
            values["cpu.max"] = f"{max(1000, self.cpus * _PERIOD // _NANO)} {_PERIOD}"
        if self.pids > 0:
            values["pids.max"] = str(self.pids)
        return values

    @property
    def _swap(self) -> str:
        if self.memory_swap == UNLIMITED:
            return "max"
        # Without a word on swap it is as much again, as with docker.
        return str(self.memory_swap - self.memory if self.memory_swap else self.memory)


def parse_limits(
    memory: str | None, memory_swap: str | None, cpus: str | None, pids: int
) -> Limits:
    """Return the limits of a command line.

    Raises StoreError in docker's words, InvalidArgument for what is not a number.
    """
    found = Limits(
        size_of("-m, --memory", memory),
        UNLIMITED if memory_swap == "-1" else size_of("--memory-swap", memory_swap),
        _cpus(cpus),
        max(pids, 0),
    )
    if 0 < found.memory < _LEAST_MEMORY:
        raise StoreError("Minimum memory limit allowed is 6MB")
    if found.memory_swap and not found.memory:
        raise StoreError(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < found.memory_swap < found.memory:
        raise StoreError("Minimum memoryswap limit should be larger than memory limit, see usage")
    there = os.cpu_count() or 1
    if found.cpus > there * _NANO:
        raise StoreError(
            f"Range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        )
    return found


def size_of(flag: str, text: str | None) -> int:
    """Return the bytes that `text`, the value of `flag`, says in units of 1024, 0 for None.

    Raises InvalidArgument.
    """
    if text is None:
        return 0
    found = re.fullmatch(_SIZE, text, re.IGNORECASE | re.ASCII)
    if found is None or len(text) > 40:
        raise InvalidArgument(f'invalid argument "{shown(text)}" for "{flag}" flag: invalid size: '
                         f"'{shown(text)}'")  # fmt: skip
    power = _UNITS.index(found[3].lower()) + 1 if found[3] else 0
    digits = found[2] or ""
    unit = int(1024**power)
    return min(int(found[1] + digits) * unit // int(10 ** len(digits)), _LARGEST)


def _cpus(text: str | None) -> int:
    if text is None:
        return 0
    problem = f'invalid argument "{shown(text)}" for "--cpus" flag: '
    found = re.fullmatch(_DECIMAL, text, re.ASCII)
    if found is None or text == ".":
        raise InvalidArgument(f"{problem}failed to parse {shown(text)} as a rational number")
    digits = (found[2] or "").rstrip("0")
    if len(digits) > _DIGITS:
        raise InvalidArgument(f"{problem}value is too precise")
    return int(found[1] or "0") * _NANO + int(digits.ljust(_DIGITS, "0"))
