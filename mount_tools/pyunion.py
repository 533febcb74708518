"""`pyunion`: the command line over the layer store, and what `mount -t fuse.pyunion` runs.

mount.fuse3 runs the program named by the type as `pyunion SPEC DIR -o OPTIONS`;
that form is mount.pyunion's own.  It always has the directory in full, by which a union
that is called as a command of ours is told from that command.

Source: libfuse `util/mount.fuse.c`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        # Each imports what the other has no use for, and both are to start at once.
        module = "mount_tools.helper.main" if is_mount_call(words) else "mount_tools.cli.main"
        run: object = import_module(module).main
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    assert callable(run)
    status = run(words)
    assert isinstance(status, int)
    return status


def is_mount_call(words: Sequence[str]) -> bool:
    """Tell whether `words` are those of mount.fuse3: two operands, then -o and its value."""
    if len(words) < 4 or words[2] != "-o" or words[0].startswith("-") or words[1].startswith("-"):
        return False
    if words[1].startswith("/") and os.path.isdir(words[1]):
        return True
    from mount_tools.cli.main import COMMANDS

    return words[0] not in COMMANDS


if __name__ == "__main__":
    sys.exit(main())
