"""The program mount.pyunion: by the warm helper, if there is one, or by itself.

Imports nothing but the client of the helper before it is known that there is none.
"""

from __future__ import annotations

import os
import sys

from mount_tools.helper.warm_client import Asked, Here, ask, here
from mount_tools.interrupts import Interruptible

# What `daemon.report.Reporter.live` sends.
_LIVE = b"\1\0\0\0"


def main() -> int:
    """Run the command; return its exit status, or end with it."""
    arguments = sys.argv[1:]
    at = here() if is_an_engines(arguments) else None
    if at is not None:
        asked = ask(at, sys.argv[0], arguments)
        if asked is not None:
            return _end(asked)
    return _by_ourselves(at)


def is_an_engines(arguments: list[str]) -> bool:
    """Tell whether `arguments` are options of a mount and one directory, as engines write them.

    mount(8) names a SPEC too, and a command with another flag does more than mount.
    """
    operands, words = 0, iter(arguments)
    for word in words:
        if word == "-o":
            next(words, None)
        elif word.startswith("-"):
            if not word.startswith("-o"):
                return False
        else:
            operands += 1
    return operands == 1


def _end(asked: Asked) -> int:
    try:
        with Interruptible():
            said = asked.report()
    except KeyboardInterrupt:
        said = None
    if said == _LIVE:
        os._exit(0)
    from mount_tools.helper.main import end_with  # a failure has time

    return end_with(said)


def _by_ourselves(at: Here | None) -> int:
    from mount_tools.helper.main import main as mount

    return mount(at=at)


if __name__ == "__main__":
    sys.exit(main())
