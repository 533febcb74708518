"""The texts of `mount.pyunion --help` and of its manual page.

They are data, so that both come from one source: `SYNOPSES`, `FLAGS`, `SIGNALS`,
`ENVIRONMENT` and `EXIT_STATUSES` here, the mount options in `mount_tools.mount.option_table`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from mount_tools.mount.option_table import REFUSED, SECTIONS, TUNING, Option

Term = tuple[str, str]  # a term and its meaning


SYNOPSES = (
    ("mount.pyunion [-sfnv] SPEC DIR -o OPTIONS", "as mount(8) calls it"),
    ("mount.pyunion [-fd] -o OPTIONS DIR", "as fuse-overlayfs is called"),
)

DESCRIPTION = (
    "Mount a union of directories on DIR.  The command returns once the mount is live; the "
    "daemon that serves it ends at umount DIR.  SPEC is any text; `mount` shows it.  "
    "Without lowerdir=, SPEC is the name of an image in the store; such a mount is nosuid and "
    "nodev unless the options say allow_suid or allow_dev."
)

FLAGS = (
    ("-o OPTIONS", "mount options, separated by commas; may be given again"),
    (
        "-f",
        "with SPEC: fake, check the options and do nothing; without SPEC: stay in the foreground",
    ),
    ("--foreground", "stay in the foreground"),
    ("--fake", "check the options and do nothing"),
    ("-d, --debug", "log more"),
    ("-v, --verbose", "print what was mounted"),
    ("-s, --sloppy", "ignore unknown options"),
    ("-n, -t TYPE", "accepted without effect; mount(8) passes them"),
    ("-N NAMESPACE", "mount in this mount namespace, for example /proc/PID/ns/mnt"),
    ("-h, --help", "print this help"),
    ("-V, --version", "print the version"),
)

SIGNALS = (
    ("TERM, INT, HUP", "unmount; a mount in use is detached, served until its last user ends"),
    ("USR1", "log the counters"),
)

ENVIRONMENT = (
    (
        "PYUNION_WARM=0",
        "leave no warm helper, which makes the next mounts of an engine faster, and use none",
    ),
)

EXIT_STATUSES = (
    ("0", "the mount is live"),
    ("1", "wrong usage"),
    ("2", "system error"),
    ("4", "a bug in PyUnion"),
    ("8", "interrupted"),
    ("32", "the mount failed"),
)

_WIDTH = 79
_TERM = 21  # columns of a term, with its indent


def usage() -> str:
    """Return the help text, which ends with a newline."""
    lines = [
        *(
            f"{'usage:' if not n else '      '} {call:<44} {why}"
            for n, (call, why) in enumerate(SYNOPSES)
        ),
        "",
        *_filled(DESCRIPTION),
        "",
        *_listed(FLAGS),
    ]
    for section in SECTIONS:
        lines += ["", section.title, *_listed(map(_entry, section.options))]
        if section.note:
            lines += _filled(section.note)
    lines += [
        "",
        *_filled(
            f"Accepted without effect: {_sorted(TUNING)}, and options that only concern mount(8)."
        ),
        "",
        "Refused, since ignoring them would change what the mount shows",
        *_listed((name, refused.why) for name, refused in REFUSED.items()),
        "",
        "Signals to the daemon",
        *_listed(SIGNALS),
        "",
        "Environment",
        *_listed(ENVIRONMENT),
        "",
        "Exit status",
        *_listed(EXIT_STATUSES),
    ]
    return "\n".join(lines) + "\n"


def _entry(option: Option) -> Term:
    term = f"{option.name}={option.argument}" if option.argument else option.name
    default = f" (default: {option.default})" if option.default else ""
    return (term, option.meaning + default)


def _sorted(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


def _listed(entries: Iterable[Term]) -> Iterator[str]:
    """Yield the lines of a list: terms on the left, meanings on the right."""
    for term, meaning in entries:
        first, *others = textwrap.wrap(
            meaning, _WIDTH - _TERM, break_on_hyphens=False, break_long_words=False
        )
        left = f"  {term}"
        if len(left) > _TERM - 2:
            yield left
            left = ""
        yield f"{left:<{_TERM}}{first}"
        yield from (" " * _TERM + line for line in others)
