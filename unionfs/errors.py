"""The errors of the union, and the one map from an exception to an errno.

The core raises `OSError` with the errno for the caller of the system call; its
text is for the log.  Any other exception is a bug: the caller gets EIO, the
traceback is logged, and the mount stays usable.
"""

from __future__ import annotations

import errno
import os

from unionfs.light_logging import Logger

log = Logger(__name__)

# Errnos from this one on are internal to the kernel (include/linux/errno.h ERESTARTSYS).
# It refuses a reply with one of them, and the caller would wait for ever.
FIRST_INTERNAL = 512


class ConfigError(Exception):
    """The options of a mount cannot work.

    The text is one sentence for the person at the terminal: what failed, on
    what, why, what to do.
    """


class InUse(ConfigError):
    """An upper or a workdir is in use by another mount, of ours or of kernel overlayfs."""


class MountError(Exception):
    """The kernel refused a mount whose options are valid.

    The text is one sentence for the person at the terminal.
    """


class MountBusy(MountError):
    """A mount cannot be unmounted because processes use it."""


def fs_error(number: int, path: str | bytes | None = None) -> OSError:
    """Return the `OSError` of errno `number`, with the text of strerror(3), about `path`."""
    return OSError(number, os.strerror(number), path)


def error_text(error: OSError) -> str:
    """Return "PATH: REASON", with the paths that `error` names, if any, and strerror(3)'s text."""
    # A call on a descriptor, as listdir(3), names its number.
    named = (name for name in (error.filename, error.filename2) if isinstance(name, str | bytes))
    paths = " -> ".join(os.fsdecode(name) for name in named if name)
    said = error.strerror or str(error)
    if not paths and error.errno == errno.ENOENT and not _has_working_directory():
        return "the working directory was removed: change to another one"
    return f"{paths}: {said}" if paths else said


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def errno_of(error: BaseException, where: str) -> int:
    """Return the errno to answer for `error`, raised while serving `where`.

    For an `OSError` that is its own errno, or EIO if that is internal to the kernel.
    Any other exception is a bug, logged with its traceback and answered with EIO.
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno if 0 < error.errno < FIRST_INTERNAL else errno.EIO
    log.error("%s failed by a bug in PyUnion; please report it", where, exc_info=error)
    return errno.EIO
