"""The version of PyUnion, as it is installed.

importlib.metadata parses the metadata as an e-mail, and its import takes longer than all the rest
of `--version`.  The name of the directory of an installed distribution has the version too.

Source: PyPA "Recording installed projects", the .dist-info directory.
"""

from __future__ import annotations

import os
import sys

_BEGINS, _ENDS = "pyunion-", ".dist-info"


def own_version() -> str:
    """Return the version, or what `--version` says of a checkout that is not installed."""
    for directory in sys.path:
        try:
            names = os.listdir(directory or ".")
        except OSError:
            continue  # an archive, or nothing
        for name in names:
            if name.startswith(_BEGINS) and name.endswith(_ENDS):
                return name[len(_BEGINS) : -len(_ENDS)]
    return _otherwise_installed()


def _otherwise_installed() -> str:
    """Return the version of what was installed in another form, as an egg is."""
    from importlib import metadata

    try:
        return metadata.version("pyunion")
    except metadata.PackageNotFoundError:
        return "of an uninstalled checkout"
