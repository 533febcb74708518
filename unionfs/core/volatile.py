"""Volatile mounts, which never sync: the mark by which a later mount knows what it may trust.

Decided here and only here: when an upper that was mounted volatile may be used again.
Its data may be in memory only.  So it may be used if the mount ended well and the
machine has not been started anew since; otherwise files may be incomplete.

The mark is overlayfs's, `<workdir>/work/incompat/volatile`, which makes overlayfs
refuse the upper; the file `clean` in it is ours, and holds the boot id.

Source: overlayfs.rst "Volatile mount"; random(4) "boot_id".
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from unionfs.core.layer import Fd
from unionfs.core.workdir import WorkDir, open_private_dir

_INCOMPAT = b"incompat"
_MARK = b"incompat/volatile"
_DIRTY = b"incompat/volatile/dirty"
_CLEAN = b"incompat/volatile/clean"
_FLAGS = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def boot_id() -> bytes:
    """Return what identifies the running boot of the machine, b"" without /proc."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""


class Leftover(Exception):
    """An earlier volatile mount of the upper did not end well, or the machine restarted since."""


def check_leftover(work_base: Fd) -> bool:
    """Tell whether a volatile mount used the workdir before, and nothing was synced since.

    Raises `Leftover` if its files may be incomplete, and the `OSError` of looking.
    """
    try:
        work = open_private_dir(work_base, b"work", create=False)
        os.stat(_MARK, dir_fd=work, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    try:
        fd = os.open(_CLEAN, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=work)
    except OSError:
        raise Leftover from None
    with open(fd, "rb") as file:
        left = file.read(64)
    if not left or left != boot_id():
        raise Leftover
    return True


def leave_mark(work: WorkDir) -> None:
    """Mark the workdir as that of a volatile mount in use."""
    os.mkdir(_INCOMPAT, 0o700, dir_fd=work.fd)
    os.mkdir(_MARK, 0o700, dir_fd=work.fd)
    os.close(os.open(_DIRTY, _FLAGS, 0o600, dir_fd=work.fd))


def leave_clean_mark(work: WorkDir) -> None:
    """Empty the staging directory but for the mark, and note there that the mount ended well.

    An engine may have removed the workdir already.
    """
    with suppress(FileNotFoundError):
        work.sweep(keep=_INCOMPAT)
        with open(os.open(_CLEAN, _FLAGS, 0o600, dir_fd=work.fd), "wb") as file:
            file.write(boot_id())
