"""The streams of a command: pipes with the keeper at their other ends, or nothing yet."""

from __future__ import annotations

import os
import pty

import pytest

from mount_tools.container.process import Launch
from mount_tools.container.streams import Ends, Streams, of_terminal, streams_for


def close(streams: Streams, ends: Ends) -> None:
    ends.close()
    for fd in {*streams.outputs, *([] if streams.stdin is None else [streams.stdin])}:
        os.close(fd)


@pytest.mark.parametrize("stdin", [True, False])
def test_pipes(stdin: bool) -> None:
    streams, ends = streams_for(Launch((), (), "/", ""), stdin=stdin)
    try:
        for fd, number in streams.outputs.items():
            os.write(ends[number], b"said %d" % number)
            assert os.read(fd, 100) == b"said %d" % number
            assert not os.get_blocking(fd)
        assert sorted(streams.outputs.values()) == [1, 2]
        if streams.stdin is not None:
            os.write(streams.stdin, b"typed")
            assert os.read(ends.stdin, 100) == b"typed"
        else:
            assert not stdin
            assert os.read(ends.stdin, 100) == b""
        assert not any(os.get_inheritable(fd) for fd in ends)
    finally:
        close(streams, ends)


def test_before_there_is_a_terminal_there_is_nothing() -> None:
    streams, ends = streams_for(Launch((), (), "/", "", terminal=True), stdin=True)
    assert streams == Streams(None, {})
    assert os.read(ends.stdin, 100) == b""
    assert os.write(ends.stderr, b"lost") == 4
    close(streams, ends)
    master, slave = pty.openpty()
    streams = of_terminal(master)
    assert streams == Streams(master, {master: 1}, master)
    os.close(master)
    os.close(slave)
