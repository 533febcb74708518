"""The users and groups of an image: its own /etc/passwd and /etc/group.

Decided here and only here: how those files are read.  They are opened beneath the image's
root, and links are followed within it.  A file that is missing, too large or not a regular
file has no lines.  The host's files are not used, and no library of the image is loaded.

Source: passwd(5), group(5); CVE-2024-9676 for a hostile /etc/passwd.
"""

from __future__ import annotations

import os
import re
import stat

from layerstore.errors import StoreError
from unionfs.syscalls.openat2 import open_in_root

_LARGEST = 1 << 20  # bytes of a passwd or group file
_HIGHEST = (1 << 31) - 1
# str.isdecimal() and int() know the digits of every script.
_DIGITS = r"[0-9]+"


def users(root_fd: int) -> list[list[str]]:
    """Return the lines of /etc/passwd in the image at `root_fd`, as lists of seven fields."""
    return _rows(root_fd, b"etc/passwd", 7)


def groups(root_fd: int) -> list[list[str]]:
    """Return the lines of /etc/group in the image at `root_fd`, as lists of four fields."""
    return _rows(root_fd, b"etc/group", 4)


def is_number(text: str) -> bool:
    """Tell whether `text` is an id and not a name."""
    return re.fullmatch(_DIGITS, text) is not None


def id_number(text: str) -> int:
    """Return the number of the id `text`; raises StoreError if it is out of range."""
    if not is_number(text) or len(text) > 10 or int(text) > _HIGHEST:
        raise StoreError(f"uids and gids must be in range 0-{_HIGHEST}")
    return int(text)


def _rows(root_fd: int, path: bytes, fields: int) -> list[list[str]]:
    text = _content(root_fd, path).decode(errors="surrogateescape")
    # Not splitlines(), for which many characters end a line.
    rows = [line.split(":") for line in text.split("\n")]
    return [row for row in rows if len(row) >= fields and is_number(row[2])]


def _content(root_fd: int, path: bytes) -> bytes:
    try:
        # O_NONBLOCK: the open of a FIFO returns, and of a device of the image fails (nodev).
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    # Not at once as a file: Python's open() raises an error for a directory.
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return b""
    with open(fd, "rb") as file:
        content = file.read(_LARGEST + 1)  # it may grow while it is read
    return content if len(content) <= _LARGEST else b""
