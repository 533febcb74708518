"""What a container's processes may do: docker's words, and what they come to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from mount_tools.container.rights import (
    CAPABILITIES,
    DEFAULT,
    MKNOD,
    Ulimit,
    capabilities,
    capability,
    parse_ulimit,
)
from tests.helpers.mounts import DEADLINE, helper_environment


def test_the_numbers_are_the_kernels() -> None:
    """The name of the last one that this kernel has is at that place."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert (CAPABILITIES["CHOWN"], CAPABILITIES["SYS_ADMIN"], MKNOD) == (0, 21, 27)
    assert CAPABILITIES["CHECKPOINT_RESTORE"] == 40 <= last


@pytest.mark.parametrize(
    ("added", "dropped", "privileged", "found"),
    [
        ((), (), False, DEFAULT),
        (("MKNOD",), (), False, DEFAULT | {27}),
        ((), ("CHOWN",), False, DEFAULT - {0}),
        (("cap_mknod",), ("ALL",), False, {27}),
        (("ALL",), ("mknod",), False, frozenset(range(64)) - {27}),
        ((), ("ALL",), True, frozenset(range(64))),
    ],
)
def test_what_is_added_and_dropped(
    added: tuple[str, ...], dropped: tuple[str, ...], privileged: bool, found: frozenset[int]
) -> None:
    assert capabilities(added, dropped, privileged=privileged) == found


def test_names_of_capabilities() -> None:
    assert capability("net_admin") == capability("CAP_NET_ADMIN") == "CAP_NET_ADMIN"
    assert capability("all") == "ALL"
    with pytest.raises(StoreError, match="invalid capability"):
        capability("NONE")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=10", Ulimit("nofile", 10, 10)),
        ("nofile=10:20", Ulimit("nofile", 10, 20)),
        ("core=0:-1", Ulimit("core", 0, -1)),
        ("core=-1:-1", Ulimit("core", -1, -1)),
    ],
)
def test_limits(text: str, limit: Ulimit) -> None:
    assert parse_ulimit(text) == limit


@pytest.mark.parametrize(
    "text", ["", "nofile", "nofile=", "none=1", "nofile=x", "nofile=2:1", "nofile=-1:5", "nofile=٣"]
)
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(StoreError, match="ulimit"):
        parse_ulimit(text)


def test_a_limit_is_set_or_refused_in_a_sentence() -> None:
    script = (
        "import resource, sys\n"
        "from layerstore.errors import StoreError\n"
        "from mount_tools.container.rights import Ulimit\n"
        "Ulimit('nofile', 50, 60).set()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "import os\n"
        "os.getuid() or os.setresuid(65534, 65534, 65534)\n"
        "try: Ulimit('nofile', 50, 70).set()\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=helper_environment(),
        timeout=DEADLINE,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == "(50, 60)"
    assert second.startswith("--ulimit nofile=50:70: ")
