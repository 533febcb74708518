"""Parse the command line of mount.pyunion into a `Call`.

Decided here and only here: the forms of the command line and the meaning of its flags.
There are two forms: that of mount(8), `SPEC DIR [-sfnv] [-N ns] [-o opts] [-t type]`, where
-f means "fake"; and that of fuse-overlayfs, `-o opts [-f] DIR`, where -f means
"foreground".  So -f means "fake" if there is a SPEC, else "foreground".  --fake, --foreground
and -o foreground always mean the same.

Source: mount(8) "EXTERNAL HELPERS"; libmount `context_mount.c:exec_helper()`;
fuse-overlayfs(1).
"""

from __future__ import annotations

import getopt
from collections.abc import Sequence
from dataclasses import dataclass, field

from mount_tools.mount.option_grammar import OptionError, shortened

SHORT = "sfnvdho:t:N:V"
LONG = ["help", "version", "fake", "foreground", "debug", "verbose", "sloppy", "options="]

FUSE_OVERLAYFS = "fuse-overlayfs"
"""The name of the program that container engines look for."""

_SWITCHES = {
    "-d": "debug",
    "--debug": "debug",
    "-h": "help",
    "--help": "help",
    "-s": "sloppy",
    "--sloppy": "sloppy",
    "-v": "verbose",
    "--verbose": "verbose",
    "-V": "version",
    "--version": "version",
    "--fake": "fake",
    "--foreground": "foreground",
}


@dataclass(slots=True)
class Call:
    """One command line, parsed.

    `engine` says that a container engine may have written it, for fuse-overlayfs.
    """

    spec: str | None = None
    directory: str = ""
    options: list[str] = field(default_factory=list)
    namespace: str | None = None
    sloppy: bool = False
    fake: bool = False
    foreground: bool = False
    verbose: bool = False
    debug: bool = False
    help: bool = False
    version: bool = False
    engine: bool = False


def parse_call(arguments: Sequence[str], *, program: str = "mount.pyunion") -> Call:
    """Parse `arguments`, the words after the program's name.

    If `program` is fuse-overlayfs, -f always means "foreground": mount(8) calls it through
    mount.fuse3, which passes no -f.

    Raises `OptionError` with a sentence for the user.
    """
    try:
        flags, operands = getopt.gnu_getopt(list(arguments), SHORT, LONG)
    except getopt.GetoptError as error:
        raise OptionError(f"{error.msg}; see --help") from None
    call = Call()
    ambiguous_f = False
    for flag, value in flags:
        if flag in ("-o", "--options"):
            call.options.append(value)
        elif flag == "-N":
            call.namespace = value
        elif flag == "-f":
            ambiguous_f = True
        elif flag in _SWITCHES:
            setattr(call, _SWITCHES[flag], True)
        # -n and -t have no effect here.
    if call.help or call.version:
        return call
    _take_operands(call, operands)
    call.engine = program == FUSE_OVERLAYFS or call.spec is None
    if ambiguous_f and call.spec is not None and program != FUSE_OVERLAYFS:
        call.fake = True
    elif ambiguous_f:
        call.foreground = True
    return call


def _take_operands(call: Call, operands: list[str]) -> None:
    if not operands:
        raise OptionError("no directory to mount on was given; see --help")
    if len(operands) > 2:
        raise OptionError(
            f"{shortened(operands[2])!r} is one argument too many; give at most SPEC and DIR, "
            f"and the mount options as one word after -o"
        )
    *spec, call.directory = operands
    call.spec = spec[0] if spec else None
    if not call.directory:
        raise OptionError("the directory to mount on is an empty string; see --help")
