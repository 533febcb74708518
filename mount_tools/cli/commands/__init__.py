"""The commands of `pyunion`, one module each.

`mount_tools.cli.main.COMMANDS` lists them; a new command is a module here and a line there.
"""
