"""`pyunion logs`: what a container printed.

Source: docker/cli `cli/command/container/logs.go`.
"""

from __future__ import annotations

import sys
import time

from layerstore.oci.durations import SECOND
from layerstore.oci.timestamps import parse_until
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation
from mount_tools.container.following import log_entries
from unionfs.light_typing import NamedTuple


class _Flags(NamedTuple):
    """The flags of `logs`."""

    follow: bool
    since: str | None
    until: str | None
    tail: str
    timestamps: bool
    details: bool


@framework.command(
    "Fetch the logs of a container", "CONTAINER", least=1, most=1, completes=named("container")
)
@framework.flag("-f", "--follow", says="Follow log output")
@framework.text("--since", says="Show logs since a time (2026-01-31T10:00:00Z) or duration (42m)")
@framework.text("--until", says="Show logs before a time (2026-01-31T10:00:00Z) or duration (42m)")
@framework.text("-n", "--tail", says="Number of lines to show from the end", default="all")
@framework.flag("-t", "--timestamps", says="Show timestamps")
@framework.flag("--details", says="Accepted without effect: a log has no details")
@framework.as_one(_Flags)
def logs(invocation: Invocation, operands: tuple[str, ...], flags: _Flags) -> None:
    """The command's stdout is printed to stdout, and its stderr to stderr. A container of
    `run --rm` in the foreground has no log. A log keeps the last 16 to 32 MiB."""
    store = invocation.store
    container = store.containers.resolve(operands[0])
    now = time.time_ns()
    begin = parse_until(flags.since, now) if flags.since else None
    end = parse_until(flags.until, now) if flags.until else None
    for entry in log_entries(container, follow=flags.follow, tail=_count(flags.tail)):
        if begin is not None and entry.time_ns < begin:
            continue
        if end is not None and entry.time_ns > end:
            break
        stream = sys.stdout if entry.stream == "stdout" else sys.stderr
        stream.write(f"{_stamp(entry.time_ns)} {entry.text}" if flags.timestamps else entry.text)
        if flags.follow:
            stream.flush()


def _count(tail: str) -> int | None:
    """Return how many lines `--tail` asks for, None for all."""
    if tail == "all":
        return None
    if tail.isascii() and tail.isdigit():
        # int() refuses more than 4,300 digits; no log has so many lines.
        return int(tail) if len(tail) < 19 else None
    raise WrongWords(f'invalid argument "{tail}" for "-n, --tail" flag: a number, or all', 125)


def _stamp(ns: int) -> str:
    """Return a time with all nine digits of its fraction, so that columns line up."""
    seconds, fraction = divmod(ns, SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"
