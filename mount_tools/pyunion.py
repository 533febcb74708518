"""`pyunion`: for now, what `mount -t fuse.pyunion SPEC DIR` runs.

mount.fuse3 runs the program named by the type as `pyunion SPEC DIR -o OPTIONS`;
that form is mount.pyunion's own.

Source: libfuse `util/mount.fuse.c`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mount_tools import mount_helper
from mount_tools.daemon import USAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if is_mount_call(words):
        return mount_helper.main(words)
    print("usage: pyunion SPEC DIR -o OPTIONS; see mount.pyunion --help", file=sys.stderr)
    return USAGE


def is_mount_call(words: Sequence[str]) -> bool:
    """Tell whether `words` are those of mount.fuse3: two operands, then -o and its value."""
    return (
        len(words) >= 4
        and not words[0].startswith("-")
        and not words[1].startswith("-")
        and words[2] == "-o"
    )


if __name__ == "__main__":
    sys.exit(main())
