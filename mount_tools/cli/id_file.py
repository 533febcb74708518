"""Files that get the id of what a command made: --cidfile and --iidfile.

Another user may have a link waiting where the file is to be, if that is a directory like /tmp.
So the file is always a new one, and no link is followed.

Source: moby `cli/command/container/create.go`, `cli/command/image/build.go`; open(2) O_EXCL.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from layerstore.errors import Conflict


def refuse_used(path: str | None) -> None:
    """Raise Conflict if there is something at `path`, the --cidfile of a new container, if any."""
    if path and os.path.lexists(path):
        raise Conflict(
            f"Container ID file found, make sure the other container isn't running or delete {path}"
        )


def remove(path: str) -> None:
    """Remove the file or link at `path`, if there is one.

    Raises OSError, and Conflict for a device or what else is no file, as /dev/stdout.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Conflict(f"{path} is no regular file: name one that the id can be written to")
    with suppress(FileNotFoundError):
        os.unlink(path)


def write(path: str, text: str) -> None:
    """Make the file `path` with `text` in it.  Raises OSError, FileExistsError if it is there."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(fd, "w") as file:
        file.write(text)
