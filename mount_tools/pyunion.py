"""`pyunion`: the command line over the layer store, and what `mount -t fuse.pyunion` runs.

mount.fuse3 runs the program named by the type as `pyunion SPEC DIR -o OPTIONS`, the command
line of mount.pyunion.  Its DIR is always an absolute path, which distinguishes a SPEC that is
the name of one of our commands from that command.

Source: libfuse `util/mount.fuse.c`.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status, or end with it if `arguments` is None."""
    if arguments is None:
        gc.disable()  # until all is imported: `framework.Command.invoke` enables it
        status = _run_apart(sys.argv[1:])
        from mount_tools.leave import leave  # now: it needs no time at the start

        leave(status)
    return _run(arguments)


def _run_apart(words: Sequence[str]) -> int:
    """Do the same as `_run`, in a child if the command waits for a container's files."""
    if command_of(words) not in _WAITING or is_mount_call(words):
        return _run(words)
    status = import_module("mount_tools.cli.apart").in_a_child(lambda: _run(words))
    assert isinstance(status, int)
    return status


def _run(words: Sequence[str]) -> int:
    try:
        # Only one of the two is imported, so that both start fast.
        if is_mount_call(words):
            words = [*words[:3], without_defaults(words[3]), *words[4:]]
            run: object = import_module("mount_tools.helper.main").main
            more: tuple[object, ...] = ()
        else:
            kind = needs_keeper(words)
            more = () if kind is None else (_prepared_keeper(kind),)
            run = import_module("mount_tools.cli.main").main
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    assert callable(run)
    status = run(words, *more)
    assert isinstance(status, int)
    return status


def _prepared_keeper(kind: str) -> object:
    """Fork a keeper of the kind RUN or EXEC; it gets ready while we read the command line.

    What both need is imported before that.
    """
    import_module("mount_tools.daemon.detach").keep_standard_fds()
    for name in OF_BOTH:
        import_module(name)
    module = import_module("mount_tools.container.keeper_process")
    try:
        found: object = module.PreparedKeeper(getattr(module, kind))
    except OSError:
        return None  # the command forks one when it needs it, and reports if that fails too
    return found


OF_BOTH = (
    "layerstore.light_pathlib",  # before those that import pathlib
    "layerstore.store",
    "mount_tools.container.host_config",
    "mount_tools.container.keeper_process",
    "mount_tools.container.user_namespace",
    "unionfs.syscalls.removal",
)
"""What the command and its keeper need."""
_KEEPERS = {"run": "RUN", "start": "RUN", "restart": "RUN", "exec": "EXEC"}
_WAITING = ("cp", "restore")
"""The commands that read or write files of a container that runs."""


def needs_keeper(words: Sequence[str]) -> str | None:
    """Return the kind of keeper that the command in `words` needs, with pyunion's own options."""
    return None if "--help" in words else _KEEPERS.get(command_of(words))


def command_of(words: Sequence[str]) -> str:
    """Return the command in `words`, which may begin with pyunion's own options; "" for none."""
    rest = iter(words)
    for word in rest:
        if word == "--root":
            next(rest, None)
        elif word != "container" and not word.startswith("-"):
            return word
    return ""


def is_mount_call(words: Sequence[str]) -> bool:
    """Tell whether `words` are those of mount.fuse3: two operands, then -o and its value."""
    if len(words) < 4 or words[2] != "-o" or words[0].startswith("-") or words[1].startswith("-"):
        return False
    if words[1].startswith("/") and os.path.isdir(words[1]):
        return True
    from mount_tools.cli.main import COMMANDS

    return words[0] not in COMMANDS


def without_defaults(options: str) -> str:
    """Return the options of the user from those that mount.fuse3 gives.

    It appends `dev` and `suid`, each unless the user has given the opposite.  The mount of an
    image is nosuid and nodev unless the user says otherwise.
    """
    for word in ("suid", "dev"):
        options = "" if options == word else options.removesuffix(f",{word}")
    return options


if __name__ == "__main__":
    sys.exit(main())
