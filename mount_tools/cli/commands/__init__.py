"""The commands of `pyunion`, one module each.

`mount_tools.cli.main.COMMANDS` lists them; a new command is a module here and a line there.
"""

from __future__ import annotations

from layerstore import light_pathlib as light_pathlib  # before any command imports pathlib
