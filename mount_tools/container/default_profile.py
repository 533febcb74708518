"""The seccomp profile of a container that names none: that of containers-common, if it is there.

Decided here and only here: where the profile is looked for, and that its filter is kept in the
store, since to make it takes as long as a fifth of a start.  Without the file, or without
libseccomp, such a container has no filter: a profile of our own would have to follow every new
system call, and an old one denies what programs need.

Source: containers.conf(5) "seccomp_profile"; containers/common `pkg/seccomp/`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

from layerstore.errors import StoreError
from layerstore.oci.sha256 import sha256_hex
from mount_tools.container.rights import UNCONFINED, names_of

PROFILES = ("/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json")
"""The administrator's, and the package's."""

_REFUSED = ("keyctl",)
"""What the package's allows and docker's does not.

To the kernel's keys root of a root's container is root of this machine, whose user keyring it
could read.
"""

_KEPT = "seccomp-filter"  # in the store: a digest of the rest, the key, and the program
_DIGEST = 64  # bytes


def default_filter(store: str, capabilities: frozenset[int]) -> Callable[[], None] | None:
    """Return what loads the filter of such a container, None if it has none.

    `store` is the directory of the store.  Raises StoreError if the profile is not one.
    """
    found = _profile()
    if found is None:
        return None
    source, text = found
    system = os.uname()
    refused = _REFUSED if source == PROFILES[-1] else ()
    meant = f"{sorted(capabilities)} {system.release} {system.machine} {refused} ".encode()
    key = sha256_hex(meant + text).encode()
    path = os.path.join(store, _KEPT)
    program = _kept(path, key)
    if program is None:
        program = _make(source, text, capabilities, refused)
        if program is None:
            return None
        with suppress(OSError):  # a full disk, say: the next start makes it again
            _keep(path, key + program)
    from unionfs.syscalls.seccomp import load_program  # not later: then the root is another

    return partial(_load, load_program, program)


def default_shown() -> str:
    """Return the path of the profile, or why there is none."""
    from unionfs.syscalls.seccomp import Unavailable, load_library

    path = next((path for path in PROFILES if os.path.exists(path)), None)
    if path is None:
        return f"none: {PROFILES[-1]} (containers-common) is not installed"
    try:
        load_library()
    except Unavailable as error:
        return f"none: {error}"
    return path


def _profile() -> tuple[str, bytes] | None:
    for path in PROFILES:
        with suppress(OSError), open(path, "rb") as file:
            return path, file.read()
    return None


def _make(
    source: str, text: bytes, capabilities: frozenset[int], refused: Collection[str]
) -> bytes | None:
    # Rarely needed, and slow.
    from mount_tools.container.seccomp_profile import filter_of
    from unionfs.syscalls.seccomp import Unavailable, load_library

    try:
        load_library()
    except Unavailable:
        return None
    try:
        profile = text.decode(errors="replace")
        made = filter_of(profile, names_of(capabilities), refused=refused)
        return made.program()
    except StoreError as error:
        raise StoreError(
            f"{source}: {error}; --security-opt seccomp={UNCONFINED} does without"
        ) from None


def _kept(path: str, key: bytes) -> bytes | None:
    """Return the program that is kept for `key`."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    rest = data[_DIGEST:]
    if not rest.startswith(key) or sha256_hex(rest).encode() != data[:_DIGEST]:
        return None
    return rest[len(key) :]


def _keep(path: str, rest: bytes) -> None:
    # No rename: a file that is not complete, or of two processes, has another digest.
    with open(path, "wb") as file:
        file.write(sha256_hex(rest).encode() + rest)


def _load(load: Callable[[bytes], None], program: bytes) -> None:
    try:
        load(program)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the kernel has no filters
            raise
