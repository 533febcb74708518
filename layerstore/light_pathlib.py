"""Import pathlib without urllib.parse, which takes longer than the rest of it.

Up to Python 3.11 pathlib imports urllib.parse, and that ipaddress, for `Path.as_uri` alone: 1.4 ms
of each command.  So it gets a function that imports urllib.parse when it is called.  Later
versions do the same by themselves.

Programs import this before any other module that imports pathlib: `mount_tools.pyunion` and
`mount_tools.cli.commands` do.
"""

from __future__ import annotations

import sys
from types import ModuleType

_PARSE = "urllib.parse"


def _quoted(*arguments: object, **named: object) -> object:
    """Do what `urllib.parse.quote_from_bytes` does."""
    from urllib import parse

    quote: object = parse.quote_from_bytes
    assert callable(quote)
    return quote(*arguments, **named)


def import_pathlib() -> None:
    """Import pathlib, and leave urllib.parse to those who use it."""
    if "pathlib" in sys.modules or _PARSE in sys.modules:
        return
    stand_in = ModuleType(_PARSE)
    vars(stand_in)["quote_from_bytes"] = _quoted
    sys.modules[_PARSE] = stand_in
    try:
        import pathlib  # noqa: F401 - for those who import it after this
    finally:
        del sys.modules[_PARSE]


import_pathlib()
