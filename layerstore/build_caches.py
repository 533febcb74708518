"""The directories of RUN --mount=type=cache: how builds share them, and how they are removed.

Decided here and only here: their names and their locks.  A cache is `<root>/build-cache/HEX`, by
a hash of its id, and `HEX-N` is a further one where another RUN has that for itself.  The file
`HEX.lock` is locked by flock(2) while a RUN uses the cache: with others if it is shared, else
alone, as by a removal.  It stays, since others may wait for it; its mtime is the last use.

Threading: any thread.  Source: Dockerfile reference, "RUN --mount=type=cache".
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.db.file_locks import try_lock
from layerstore.db.staging import StagingArea
from layerstore.diff.tree_walk import tree_size
from layerstore.oci.sha256 import sha256_hex
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.containerfile.instructions import Sharing

_DIGITS = 32
_NAME = rf"[0-9a-f]{{{_DIGITS}}}(?:-[0-9]+)?"
_BEGUN = rf"\.{_NAME}\.pyunion-[0-9a-f]+"
_LOCK = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@contextmanager
def claimed(caches: Path, identity: str, sharing: Sharing) -> Iterator[Path]:
    """Yield where the cache `identity` is, or is to be made; no removal has it meanwhile.

    Waits for other RUNs unless it is shared or private.  Raises OSError.
    """
    name = sha256_hex(os.fsencode(identity))[:_DIGITS]
    number = 0
    while True:
        path = caches / (name if not number else f"{name}-{number}")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(f"{path}.lock", _LOCK, 0o600)
        try:
            if sharing == "private" and not try_lock(lock):
                number += 1
                continue
            if sharing != "private":
                fcntl.flock(lock, fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX)
            os.utime(lock)
            yield path
            return
        finally:
            os.close(lock)


def all_of(caches: Path) -> list[Path]:
    """Return the directories of all caches."""
    return [caches / name for name in _names(caches) if re.fullmatch(_NAME, name)]


def strangers(caches: Path) -> list[Path]:
    """Return what is among the caches that no build made."""
    ours = rf"{_NAME}(?:\.lock)?|{_BEGUN}"
    return [caches / name for name in _names(caches) if not re.fullmatch(ours, name)]


def prune(
    caches: Path, staging: StagingArea, until_ns: int | None = None, *, dry_run: bool = False
) -> int:
    """Remove the caches that no RUN uses, last used until `until_ns`; return the bytes freed.

    With `dry_run` nothing is removed.  Raises OSError.
    """
    return sum(_removed(path, staging, until_ns, dry_run=dry_run) for path in all_of(caches))


def _removed(path: Path, staging: StagingArea, until_ns: int | None, *, dry_run: bool) -> int:
    lock = os.open(f"{path}.lock", _LOCK, 0o600)
    try:
        if until_ns is not None and os.fstat(lock).st_mtime_ns > until_ns:
            return 0
        if not try_lock(lock):
            return 0
        with suppress(FileNotFoundError):
            size = tree_size(path)
            if not dry_run:
                with staging.directory() as own:
                    os.rename(path, own / path.name)
            return size
        return 0
    finally:
        os.close(lock)


def _names(caches: Path) -> list[str]:
    try:
        return sorted(os.listdir(caches))
    except FileNotFoundError:
        return []
