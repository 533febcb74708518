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

from collections.abc import Iterator, Sequence

from mount_tools.mount.option_grammar import OptionError, shortened
from unionfs.light_typing import NamedTuple

WITH_VALUE = ("-o", "-t", "-N", "--options")
"""The flags that have a value."""

FUSE_OVERLAYFS = "fuse-overlayfs"
"""The name of the program that container engines look for."""

_SWITCHES = {
    "-f": "-f",
    "-n": "-n",
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

FLAGS = (*_SWITCHES, *WITH_VALUE)
"""Every flag that the command takes."""


class Call(NamedTuple):
    """One command line, parsed.

    `engine` says that a container engine may have written it, for fuse-overlayfs.
    """

    spec: str | None = None
    directory: str = ""
    options: tuple[str, ...] = ()
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
    flags, operands = _separated(arguments)
    # -n and -t have no effect here.
    on = {_SWITCHES.get(flag, flag) for flag, _ in flags}
    call = Call(
        options=tuple(value for flag, value in flags if flag in ("-o", "--options")),
        namespace=next((value for flag, value in reversed(flags) if flag == "-N"), None),
        sloppy="sloppy" in on,
        fake="fake" in on,
        foreground="foreground" in on,
        verbose="verbose" in on,
        debug="debug" in on,
        help="help" in on,
        version="version" in on,
    )
    if call.help or call.version:
        return call
    spec, directory = _operands_of(operands)
    means_fake = spec is not None and program != FUSE_OVERLAYFS
    return call._replace(
        spec=spec,
        directory=directory,
        engine=program == FUSE_OVERLAYFS or spec is None,
        fake=call.fake or ("-f" in on and means_fake),
        foreground=call.foreground or ("-f" in on and not means_fake),
    )


def _separated(arguments: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the flags with their values, and the operands, which may stand between them.

    As getopt_long(3); the module getopt imports gettext, which takes longer than all of this.
    """
    flags: list[tuple[str, str]] = []
    operands: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            operands += words
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            flag = _long_flag(name)
            if flag in WITH_VALUE:
                flags.append((flag, value if equals else _next(words, flag)))
            elif equals:
                raise OptionError(f"option {flag} must not have an argument; see --help")
            else:
                flags.append((flag, ""))
        elif word.startswith("-") and word != "-":
            flags += _short_flags(word[1:], words)
        else:
            operands.append(word)
    return flags, operands


def _long_flag(name: str) -> str:
    """Return the flag that `name` is or begins."""
    long = [flag for flag in FLAGS if flag.startswith("--")]
    found = [flag for flag in long if flag.startswith(name)]
    if name in found:
        return name
    if len(found) != 1:
        what = "not a unique prefix" if found else "not recognized"
        raise OptionError(f"option {name} {what}; see --help")
    return found[0]


def _short_flags(letters: str, words: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield the flags of one word; the rest of the word is the value of one that has one."""
    for at, letter in enumerate(letters, 1):
        flag = f"-{letter}"
        if flag in WITH_VALUE:
            yield flag, letters[at:] or _next(words, flag)
            return
        if flag not in _SWITCHES:
            raise OptionError(f"option {flag} not recognized; see --help")
        yield flag, ""


def _next(words: Iterator[str], flag: str) -> str:
    value = next(words, None)
    if value is None:
        raise OptionError(f"option {flag} requires argument; see --help")
    return value


def _operands_of(operands: list[str]) -> tuple[str | None, str]:
    """Return SPEC, if there is one, and DIR."""
    if not operands:
        raise OptionError("no directory to mount on was given; see --help")
    if len(operands) > 2:
        raise OptionError(
            f"{shortened(operands[2])!r} is one argument too many; give at most SPEC and DIR, "
            f"and the mount options as one word after -o"
        )
    *spec, directory = operands
    if not directory:
        raise OptionError("the directory to mount on is an empty string; see --help")
    return (spec[0] if spec else None), directory
