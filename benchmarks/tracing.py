"""Counting the requests that the kernel sends to a FUSE daemon, by opcode.

Decided here and only here: that the kernel counts, by its tracepoint
`fuse:fuse_request_send`, so that every daemon is counted alike and none is
slowed down or believed.  It knows requests that are answered; FORGETs, which
are not, it leaves out.

Source: Linux `fs/fuse/fuse_trace.h`; `Documentation/trace/ftrace.rst` "Instances".
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cell import Wrong

TRACEFS = Path("/sys/kernel/tracing")

_TRACEPOINT = "events/fuse/fuse_request_send"
_INSTANCE = "pyunion-benchmarks"
_BUFFER_KIB = 16 << 10
_SENT = re.compile(r"fuse_request_send: .* opcode \d+ \((?:FUSE_)?(\w+)\)")


class Requests:
    """The requests of one mount; made by `counting`, complete when its block has ended."""

    def __init__(self) -> None:
        self.by_opcode: Counter[str] = Counter()


class Tracer:
    """A trace buffer of our own in the kernel."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def counting(self, mount_point: Path) -> Iterator[Requests]:
        """Count what is sent to the daemon of `mount_point` during the block.

        Raises `Wrong` if the kernel had to drop some of it.
        """
        requests = Requests()
        event = self._directory / _TRACEPOINT
        (event / "filter").write_text(f"connection == {device_number(mount_point)}")
        (self._directory / "trace").write_text("")
        (event / "enable").write_text("1")
        try:
            yield requests
        finally:
            (event / "enable").write_text("0")
        requests.by_opcode.update(sent((self._directory / "trace").read_text()))
        for stats in self._directory.glob("per_cpu/cpu*/stats"):
            if not re.search(r"^overrun: 0$", stats.read_text(), re.MULTILINE):
                raise Wrong("the trace buffer was too small for all requests")


def sent(trace: str) -> Iterator[str]:
    """Return the opcode of each request in the text of a trace."""
    return (found[1] for line in trace.splitlines() if (found := _SENT.search(line)))


def device_number(mount_point: Path) -> int:
    """Return the device of what is mounted on `mount_point`, as the kernel holds it."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == str(mount_point):
            major, minor = map(int, fields[2].split(":"))
            return major << 20 | minor
    raise Wrong(f"nothing is mounted on {mount_point}")


@contextlib.contextmanager
def tracer() -> Iterator[Tracer]:
    """Make a trace buffer, gone afterwards.

    Mounts tracefs where that is not done: the mount namespace is our own.
    Raises `Wrong` where the kernel does not trace, or not us.
    """
    if not (TRACEFS / "events").exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACEFS], stderr=subprocess.DEVNULL)
    if not (TRACEFS / _TRACEPOINT).exists():
        raise Wrong("this kernel does not say what it sends (tracepoint fuse_request_send)")
    instance = TRACEFS / "instances" / _INSTANCE
    if instance.exists():
        instance.rmdir()  # of a run that was killed
    instance.mkdir()
    try:
        (instance / "buffer_size_kb").write_text(str(_BUFFER_KIB))
        yield Tracer(instance)
    finally:
        instance.rmdir()
